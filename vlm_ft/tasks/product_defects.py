"""Product defects: whether a product passes, what is wrong with it, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import Headline, Task


class Defect(Item):
    """One defect; `photo` is the number of its photo, from 1, stated if there are several."""

    kind: OneOf
    severity: Literal["minor", "major", "critical"]
    box: Box
    photo: int = Field(default=1, ge=1, le=8)


class ProductDefects(Answer):
    """The assessment of one product, from one or more photos."""

    passed: bool
    kind: OneOf = Field(description="main defect")
    findings: Annotated[list[Defect], Field(max_length=8)]


TASK = Task(
    name="product_defects",
    title="Product defects",
    answer=ProductDefects,
    instruction="Inspect the product in the photo for defects.",
    class_field="kind",
    list_field="findings",
    augment="surfaces",
    follows={"passed": "none", "kind": "largest"},
    headline=Headline(fields=("passed", "kind"), words={"passed": ("pass", "fail")}),
    sample=ProductDefects(
        passed=False,
        kind="scratch",
        findings=[
            Defect(kind="scratch", severity="major", box=(120, 300, 480, 340)),
            Defect(kind="pit", severity="minor", box=(700, 650, 760, 720)),
        ],
    ),
)
