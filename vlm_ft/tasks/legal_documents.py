"""Legal documents: which clause a passage is, whether it grants what is asked, its risk, its gist."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, OneOf
from vlm_ft.answers.task import Task, Values


class LegalDocuments(Answer):
    """The reading of one passage."""

    clause_type: OneOf
    present: bool = Field(description="the clause asked about is there")
    risk: Literal["low", "medium", "high"]
    summary: str = Field(max_length=300)


def read(label: Label) -> Values:
    """A folder's class is the clause type; all else comes from the columns that the recipe maps."""
    return {} if label.image_class is None else {"clause_type": label.image_class}


TASK = Task(
    name="legal_documents",
    title="Legal documents",
    answer=LegalDocuments,
    instruction="Read the passage of a contract or of terms of service.",
    read=read,
    sample=LegalDocuments(clause_type="audit_rights", present=True, risk="medium", summary="Audits once a year."),
    notice="A reading aid, not legal advice.",
)
