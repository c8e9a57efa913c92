"""Product defects: does it pass, what is wrong with it, where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, Box, Item, Items, OneOf
from vlm_ft.answers.task import Task, Values, items

GOOD = "none"
"""The kind of a part without a defect."""


class Defect(Item):
    """One defect."""

    kind: OneOf
    severity: Literal["minor", "major", "critical"]
    box: Box


class ProductDefects(Answer):
    """The assessment of one product photo."""

    passed: bool
    kind: OneOf = Field(description="main defect")
    findings: Annotated[list[Defect], Field(max_length=8)]


def read(label: Label) -> Values:
    """Objects are defects; an image that was looked at and has none passes.

    The main kind is the image's class, else the kind of the largest defect.
    """
    values: Values = {}
    if label.objects is not None:
        spec = TASK.fields[2].kind
        assert isinstance(spec, Items)
        values["findings"] = items(label.objects, spec, "kind")
        values["passed"] = not label.objects
        values["kind"] = values["findings"][0]["kind"] if values["findings"] else GOOD
    if label.image_class is not None:
        values["kind"] = label.image_class
        values["passed"] = label.image_class == GOOD
    return values


TASK = Task(
    name="product_defects",
    title="Product defects",
    answer=ProductDefects,
    instruction="Inspect the product in the photo for defects.",
    read=read,
    sample=ProductDefects(
        passed=False,
        kind="scratch",
        findings=[
            Defect(kind="scratch", severity="major", box=(120, 300, 480, 340)),
            Defect(kind="pit", severity="minor", box=(700, 650, 760, 720)),
        ],
    ),
)
