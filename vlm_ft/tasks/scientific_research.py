"""Scientific research: whether a passage supports a claim, and what it says."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from vlm_ft.answers.kinds import Answer
from vlm_ft.answers.task import Task, preferred_reply


class ScientificResearch(Answer):
    """The assessment of one abstract or passage."""

    verdict: Literal["supported", "refuted", "unclear"] = Field(description="of the claim asked about")
    summary: str = Field(max_length=300)


TASK = Task(
    name="scientific_research",
    title="Scientific research",
    answer=ScientificResearch,
    instruction="Read the scientific passage.",
    read=partial(preferred_reply, field="summary"),
    sample=ScientificResearch(verdict="supported", summary="A wider beam halves the noise at equal dose."),
)
