"""The shapes of cars for pictures of damage: three views, each made of closed outlines with their materials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from datasets_vision.synthetic.scene import Points
from datasets_vision.synthetic.shapes import oval

Material = Literal["body", "bumper", "glass", "headlamp", "tail_lamp", "rubber", "rim", "dark", "chrome", "plate"]


@dataclass(frozen=True)
class Panel:
    """One closed outline (n, 2) in metres. A panel without a name is scenery and is never damaged."""

    name: str
    material: Material
    outline: Points


def _panels(stated: list[dict[str, Any]]) -> Iterator[Panel]:
    for panel in stated:
        name, material = panel.get("name", ""), panel["material"]
        if "disc" in panel:
            x, y, radius = panel["disc"]
            outline = oval(x, y, radius, radius)
        else:
            outline = np.array([point.split(",") for point in panel["points"].split()], np.float32)
        yield Panel(name, material, outline)
        if panel.get("mirrored"):
            other_side = np.array([1.8, 0], np.float32) + outline * np.array([-1, 1], np.float32)
            yield Panel(name, material, other_side)


_STATED = yaml.safe_load(Path(__file__).with_name("cars.yaml").read_text(encoding="utf-8"))
VIEWS: dict[str, tuple[Panel, ...]] = {view: tuple(_panels(stated)) for view, stated in _STATED.items()}
