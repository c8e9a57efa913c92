"""The severity of a drawn finding, by a measure of its scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from datasets_vision.example import box_area
from datasets_vision.synthetic.scene import GOOD, Scene

SEVERITIES = ("minor", "moderate", "severe")
URGENCIES = {"": "routine", "minor": "routine", "moderate": "soon", "severe": "urgent"}
"""The worst severity of a picture -> its urgency: a rule for these pictures, not a professional standard."""


@dataclass(frozen=True)
class Measure:
    """What is measured, and the values at which a finding becomes moderate and severe.

    "area": its pixels over the picture's; "length": its box's diagonal over the picture's; "count": the number of
    findings of its kind in the picture.
    """

    of: Literal["area", "length", "count"]
    moderate: float
    severe: float

    def severity(self, value: float) -> str:
        """minor, moderate or severe."""
        return SEVERITIES[(value >= self.moderate) + (value >= self.severe)]


def measured(scene: Scene, place: int, of: Literal["area", "length", "count"]) -> float:
    """The measure of `scene.objects[place]`."""
    obj = scene.objects[place]
    height, width = scene.mask.shape
    match of:
        case "area":
            return float(np.count_nonzero(scene.mask == place + 1) / (height * width))
        case "length":
            left, top, right, bottom = obj.box
            return float(np.hypot(right - left, bottom - top) / np.hypot(height, width))
        case "count":
            return float(sum(other.name == obj.name for other in scene.objects))


def graded(scene: Scene, measures: Mapping[str, Measure]) -> Scene:
    """The scene, with the severity of each finding and the part that it is on (its material).

    The label becomes the kind of the finding with the largest box. The columns gain `severity`: the
    severity of the worst finding, or "" (unlabelled) if there are no findings.
    """
    severities = [
        measures[obj.name].severity(measured(scene, place, measures[obj.name].of))
        for place, obj in enumerate(scene.objects)
    ]
    objects = tuple(
        replace(obj, attributes={"part": obj.material, "severity": severity})
        for obj, severity in zip(scene.objects, severities, strict=True)
    )
    label = max(objects, key=lambda obj: box_area(obj.box)).name if objects else GOOD
    worst = max(severities, key=SEVERITIES.index, default="")
    return replace(scene, objects=objects, label=label, columns={**scene.columns, "severity": worst})
