"""Object identification: what is in the photo, how many, where."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import Task, Values

MOST = 12
"""The most objects that one answer lists."""


class Thing(Item):
    """One object."""

    name: OneOf
    box: Box


class ObjectIdentification(Answer):
    """What one photo shows."""

    kind: OneOf = Field(description="main object")
    count: int = Field(ge=0, le=99, description="number of objects")
    objects: Annotated[list[Thing], Field(max_length=MOST)]


def read(label: Label) -> Values:
    """Objects as labelled; the main object is the image's class, and is not guessed from the boxes."""
    values: Values = {}
    if label.objects is not None:
        values["objects"] = TASK.listed("objects", label.objects, "name")
        values["count"] = min(len(label.objects), 99)  # of all, also of those that the list has no room for
    if label.image_class is not None:
        values["kind"] = label.image_class
    return values


TASK = Task(
    name="object_identification",
    title="Object identification",
    answer=ObjectIdentification,
    instruction="Identify the objects in the photo.",
    read=read,
    follows={"count": "count"},
    sample=ObjectIdentification(
        kind="bottle",
        count=2,
        objects=[Thing(name="bottle", box=(40, 60, 400, 900)), Thing(name="cup", box=(520, 400, 800, 880))],
    ),
)
