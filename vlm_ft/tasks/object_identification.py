"""Object identification: what is in the photo, how many there are, and where."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import Task, Values

MAX_OBJECTS = 12
"""The most objects that one answer lists."""


class IdentifiedObject(Item):
    """One object."""

    name: OneOf
    box: Box


class ObjectIdentification(Answer):
    """What one photo shows."""

    kind: OneOf = Field(description="main object")
    count: int = Field(ge=0, le=99, description="number of objects")
    objects: Annotated[list[IdentifiedObject], Field(max_length=MAX_OBJECTS)]


def read(label: Label) -> Values:
    """The count of all objects, including those for which the list has no room."""
    return {} if label.objects is None else {"count": min(len(label.objects), 99)}


TASK = Task(
    name="object_identification",
    title="Object identification",
    answer=ObjectIdentification,
    instruction="Identify the objects in the photo.",
    class_field="kind",
    list_field="objects",
    read=read,
    augment="objects",
    follows={"count": "count"},
    sample=ObjectIdentification(
        kind="bottle",
        count=2,
        objects=[
            IdentifiedObject(name="bottle", box=(40, 60, 400, 900)),
            IdentifiedObject(name="cup", box=(520, 400, 800, 880)),
        ],
    ),
)
