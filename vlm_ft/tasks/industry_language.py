"""Industry language: a reply in the industry's own terms."""

from __future__ import annotations

from pydantic import Field

from vlm_ft.answers.kinds import Answer, OneOf
from vlm_ft.answers.task import Task, preferred_reply


class IndustryLanguage(Answer):
    """The reply to one message from the industry."""

    intent: OneOf
    reply: str = Field(max_length=400)


TASK = Task(
    name="industry_language",
    title="Industry language",
    answer=IndustryLanguage,
    instruction="Reply in the industry's own terms.",
    read=preferred_reply,
    sample=IndustryLanguage(intent="report_fault", reply="R/H MLG door seal torn. Removed and replaced seal IAW AMM."),
)
