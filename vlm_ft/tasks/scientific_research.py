"""Scientific research: does a passage support a claim, and what does it say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer
from vlm_ft.answers.task import Task, Values


class ScientificResearch(Answer):
    """The reading of one abstract or passage."""

    verdict: Literal["supported", "refuted", "unclear"] = Field(description="of the claim asked about")
    summary: str = Field(max_length=300)


def read(label: Label) -> Values:
    """Nothing but the columns that the recipe maps to fields."""
    return {}


TASK = Task(
    name="scientific_research",
    title="Scientific research",
    answer=ScientificResearch,
    instruction="Read the scientific passage.",
    read=read,
    sample=ScientificResearch(verdict="supported", summary="A wider beam halves the noise at equal dose."),
)
