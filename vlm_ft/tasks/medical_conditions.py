"""Medical conditions: what the literature says about a question on a condition."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlm_ft.answers.kinds import Answer, OneOf
from vlm_ft.answers.task import Task


class MedicalConditions(Answer):
    """The answer to one question."""

    decision: Literal["yes", "no", "maybe"]
    condition: OneOf
    answer: str = Field(max_length=600)


TASK = Task(
    name="medical_conditions",
    title="Medical conditions",
    answer=MedicalConditions,
    instruction="Answer the medical question from the passage, if there is one.",
    class_field="condition",
    sample=MedicalConditions(
        decision="maybe",
        condition="migraine",
        answer="Two small trials found fewer attacks; neither was blinded.",
    ),
    notice="Information from the literature, not medical advice.",
)
