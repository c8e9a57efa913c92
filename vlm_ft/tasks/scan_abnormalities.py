"""Scan abnormalities: what an X-ray, MR, CT or microscope image shows. For research, never a diagnosis."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import Headline, Task


class Abnormality(Item):
    """One finding; `photo` is the number of its image, from 1, stated if there are several."""

    kind: OneOf
    box: Box
    photo: int = Field(default=1, ge=1, le=8)


class ScanAbnormalities(Answer):
    """The assessment of one scan."""

    modality: OneOf
    abnormal: bool
    kind: OneOf = Field(description="main finding")
    findings: Annotated[list[Abnormality], Field(max_length=12)]
    urgency: Literal["routine", "soon", "urgent"]


TASK = Task(
    name="scan_abnormalities",
    title="Scan abnormalities",
    answer=ScanAbnormalities,
    instruction="Describe what is abnormal in the scan.",
    class_field="kind",
    list_field="findings",
    augment="scans",
    follows={"abnormal": "any", "kind": "largest"},
    headline=Headline(fields=("abnormal", "kind"), words={"abnormal": ("abnormal", "normal")}),
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
