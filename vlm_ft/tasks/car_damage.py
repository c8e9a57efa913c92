"""Car damage: whether a car is damaged, how badly, where, and what to do; a rate card adds a repair estimate."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, get_args

from pydantic import Field

from datasets_vision.example import Label, LabelledObject
from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import Headline, Task, Values

OTHER = "other"
"""The part of a finding outside all labelled parts."""

Severity = Literal["minor", "moderate", "severe"]


class Damage(Item):
    """One finding of damage; `photo` is the number of its photo, from 1, stated if there are several."""

    kind: OneOf
    part: OneOf
    severity: Severity
    box: Box
    photo: int = Field(default=1, ge=1, le=8)


class CarDamage(Answer):
    """The assessment of one car, from one or more photos."""

    damaged: bool
    severity: Severity
    kind: OneOf = Field(description="main damage")
    findings: Annotated[list[Damage], Field(max_length=8)]
    action: Literal["no_action", "repair", "replace", "total_loss_review"]


def read(label: Label) -> Values:
    """Objects are findings; a photo's class is the severity if it names one, otherwise the main damage.

    A photo that was examined and shows no damage has no severity.
    """
    values: Values = {}
    if label.objects is not None:
        values["findings"] = TASK.listed("findings", tuple(map(_on_a_part, label.objects)))
    if label.image_class is not None:
        severe = label.image_class in get_args(Severity)
        values["severity" if severe else "kind"] = label.image_class
    return values


def _on_a_part(damage: LabelledObject) -> LabelledObject:
    """A part of None means that the damage lies on none of the labelled parts; a missing part stays unobserved."""
    if damage.attributes.get("part", OTHER) is not None:
        return damage
    return replace(damage, attributes={**damage.attributes, "part": OTHER})


TASK = Task(
    name="car_damage",
    title="Car damage",
    answer=CarDamage,
    instruction="Assess the damage of the car in the photo.",
    read=read,
    augment="cars",
    follows={"damaged": "any", "kind": "largest"},
    headline=Headline(fields=("damaged", "severity", "kind", "action"), graded=("severity",)),
    sample=CarDamage(
        damaged=True,
        severity="moderate",
        kind="dent",
        findings=[
            Damage(kind="dent", part="door", severity="moderate", box=(310, 420, 640, 700)),
            Damage(kind="scratch", part="front_bumper", severity="minor", box=(80, 640, 200, 720)),
        ],
        action="repair",
    ),
)
