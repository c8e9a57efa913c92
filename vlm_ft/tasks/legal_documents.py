"""Legal documents: the type of clause of a passage, whether a clause is present, the risk, and a summary."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlm_ft.answers.kinds import Answer, OneOf
from vlm_ft.answers.task import Headline, Task


class LegalDocuments(Answer):
    """The assessment of one passage."""

    clause_type: OneOf
    present: bool = Field(description="the clause asked about is there")
    risk: Literal["low", "medium", "high"]
    summary: str = Field(max_length=300)


TASK = Task(
    name="legal_documents",
    title="Legal documents",
    answer=LegalDocuments,
    instruction="Read the passage of a contract or of terms of service.",
    class_field="clause_type",
    headline=Headline(fields=("present", "clause_type", "risk"), graded=("risk",)),
    sample=LegalDocuments(clause_type="audit_rights", present=True, risk="medium", summary="Audits once a year."),
    notice="A reading aid, not legal advice.",
)
