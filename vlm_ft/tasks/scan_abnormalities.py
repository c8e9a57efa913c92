"""Scan abnormalities: what an X-ray, MR, CT or microscope image shows. For research, never a diagnosis."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import NOTHING, Task, Values


class Abnormality(Item):
    """One finding; `photo` counts the images from 1 and is stated where there are several."""

    kind: OneOf
    box: Box
    photo: int = Field(default=1, ge=1, le=8)


class ScanAbnormalities(Answer):
    """The reading of one scan."""

    modality: OneOf
    abnormal: bool
    kind: OneOf = Field(description="main finding")
    findings: Annotated[list[Abnormality], Field(max_length=12)]
    urgency: Literal["routine", "soon", "urgent"]


def read(label: Label) -> Values:
    """Objects are findings; a scan's class is its main kind, and "none" is normal."""
    values: Values = {}
    if label.objects is not None:
        values["findings"] = TASK.listed("findings", label.objects, "kind")
    if label.image_class is not None:
        values["kind"] = label.image_class
        values["abnormal"] = label.image_class != NOTHING
    return values


TASK = Task(
    name="scan_abnormalities",
    title="Scan abnormalities",
    answer=ScanAbnormalities,
    instruction="Describe what is abnormal in the scan.",
    read=read,
    follows={"abnormal": "any", "kind": "largest"},
    sample=ScanAbnormalities(
        modality="MR",
        abnormal=True,
        kind="lesion",
        findings=[
            Abnormality(kind="lesion", box=(410, 300, 560, 450)),
            Abnormality(kind="oedema", box=(420, 480, 500, 530)),
        ],
        urgency="soon",
    ),
    notice="For research use, not a diagnosis.",
)
