"""Technical diagnosis: which system, which fault, why and how urgent, from a photo, a text or both."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, Item, OneOf
from vlm_ft.answers.task import Headline, Task, Values


class Mention(Item):
    """Words of the text that name something: a part, an activity, a state."""

    type: OneOf
    text: str = Field(max_length=80)


class TechnicalDiagnosis(Answer):
    """The diagnosis of one machine or report; `option` answers a multiple-choice question."""

    system: OneOf
    fault: OneOf
    cause: OneOf = Field(description="likely cause")
    urgency: Literal["routine", "soon", "urgent"]
    option: OneOf = Field(description="letter of the right choice")
    mentions: Annotated[list[Mention], Field(max_length=12)]
    next_step: str = Field(max_length=300)


def read(label: Label) -> Values:
    """Labelled spans of the text are its mentions."""
    words = tuple(span for span in label.objects or () if "text" in span.attributes)
    return {"mentions": TASK.listed("mentions", words)} if words or label.objects == () else {}


TASK = Task(
    name="technical_diagnosis",
    title="Technical diagnosis",
    answer=TechnicalDiagnosis,
    instruction="Diagnose the fault that the photo or the text shows.",
    class_field="fault",
    headline=Headline(fields=("fault", "system", "urgency"), graded=("urgency",)),
    augment="light",
    read=read,
    sample=TechnicalDiagnosis(
        system="hydraulics",
        fault="leak",
        cause="worn seal",
        urgency="soon",
        option="B",
        mentions=[Mention(type="part", text="boom cylinder"), Mention(type="state", text="leaking")],
        next_step="Replace the rod seal and check the rod for scores.",
    ),
)
