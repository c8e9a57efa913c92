"""The shapes of cars for pictures of damage: three views, each made of closed outlines with their materials.

A view is measured in metres: x to the right, y down from the roof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets_vision.synthetic.shapes import oval

Points = NDArray[np.float32]
Material = Literal["body", "bumper", "glass", "headlamp", "tail_lamp", "rubber", "rim", "dark", "chrome", "plate"]


@dataclass(frozen=True)
class Panel:
    """One closed outline (n, 2) in metres. A panel without a name is scenery and is never damaged."""

    name: str
    material: Material
    outline: Points


def _panel(name: str, material: Material, *points: tuple[float, float]) -> Panel:
    return Panel(name, material, np.array(points, np.float32))


def _disc(material: Material, x: float, y: float, radius: float) -> Panel:
    return Panel("", material, oval(x, y, radius, radius))


def _mirrored(panel: Panel) -> Panel:
    """The same panel on the other side of a car 1.8 m wide."""
    outline = np.array([1.8, 0], np.float32) + panel.outline * np.array([-1, 1], np.float32)
    return Panel(panel.name, panel.material, outline)


def _wheel(x: float) -> tuple[Panel, ...]:
    return (_disc("dark", x, 1.18, 0.37), _disc("rubber", x, 1.2, 0.32), _disc("rim", x, 1.2, 0.2))


def _side() -> tuple[Panel, ...]:
    return (
        _panel("", "body", (1.2, 0.64), (1.78, 0.16), (2.3, 0.08), (2.95, 0.12), (3.7, 0.54), (3.7, 0.64)),
        _panel("hood", "body", (0.1, 0.72), (0.6, 0.6), (1.2, 0.54), (1.36, 0.64), (0.46, 0.78), (0.1, 0.8)),
        _panel("fender", "body", (0.44, 0.78), (1.36, 0.63), (1.36, 1.26), (1.1, 1.26), (0.46, 1.26)),
        _panel("door", "body", (1.36, 0.62), (2.26, 0.58), (2.26, 1.26), (1.36, 1.26)),
        _panel("door", "body", (2.26, 0.58), (3.06, 0.56), (3.16, 0.9), (3.02, 1.26), (2.26, 1.26)),
        _panel(
            "quarter_panel", "body", (3.06, 0.56), (3.76, 0.55), (4.05, 0.66), (4.05, 1.24), (3.02, 1.26), (3.16, 0.9)
        ),
        _panel("trunk", "body", (3.7, 0.55), (4.3, 0.57), (4.33, 0.66), (4.03, 0.68)),
        _panel("front_bumper", "bumper", (0.03, 0.84), (0.46, 0.84), (0.46, 1.24), (0.14, 1.22), (0.02, 1.06)),
        _panel("rear_bumper", "bumper", (4.04, 0.86), (4.38, 0.84), (4.38, 1.12), (4.26, 1.22), (4.04, 1.24)),
        _panel("headlamp", "headlamp", (0.08, 0.74), (0.46, 0.72), (0.5, 0.82), (0.08, 0.86)),
        _panel("tail_lamp", "tail_lamp", (4.06, 0.66), (4.33, 0.66), (4.36, 0.84), (4.1, 0.84)),
        _panel("window", "glass", (1.48, 0.57), (1.86, 0.2), (2.22, 0.15), (2.22, 0.54)),
        _panel("window", "glass", (2.3, 0.54), (2.3, 0.15), (2.82, 0.18), (3.2, 0.5)),
        _panel("", "dark", (1.3, 0.56), (1.46, 0.53), (1.5, 0.64), (1.38, 0.66)),
        *(_panel("", "chrome", (x, 0.72), (x + 0.2, 0.71), (x + 0.2, 0.75), (x, 0.76)) for x in (2.0, 2.76)),
        *_wheel(0.8),
        *_wheel(3.58),
    )


def _faces() -> tuple[Panel, ...]:
    """The panels that the front and rear views share."""
    wheel = _panel("", "rubber", (0.1, 1.1), (0.34, 1.1), (0.34, 1.42), (0.12, 1.42))
    flank = _panel("fender", "body", (0.02, 0.62), (0.2, 0.5), (0.16, 0.92), (0.02, 0.96))
    roof = _panel("", "body", (0.28, 0.52), (0.44, 0.1), (0.9, 0.05), (1.36, 0.1), (1.52, 0.52))
    return wheel, _mirrored(wheel), roof, flank, _mirrored(flank)


def _front() -> tuple[Panel, ...]:
    lamp = _panel("headlamp", "headlamp", (0.07, 0.74), (0.3, 0.74), (0.54, 0.82), (0.5, 0.94), (0.12, 0.9))
    return (
        *_faces(),
        _panel(
            "hood",
            "body",
            (0.2, 0.5),
            (0.5, 0.46),
            (1.3, 0.46),
            (1.6, 0.5),
            (1.72, 0.76),
            (1.2, 0.8),
            (0.6, 0.8),
            (0.08, 0.76),
        ),
        _panel(
            "front_bumper", "bumper", (0.04, 0.8), (1.76, 0.8), (1.78, 1.08), (1.66, 1.28), (0.14, 1.28), (0.02, 1.08)
        ),
        _panel("windshield", "glass", (0.36, 0.46), (0.49, 0.12), (1.31, 0.12), (1.44, 0.46)),
        lamp,
        _mirrored(lamp),
        _panel("", "dark", (0.58, 0.82), (1.22, 0.82), (1.14, 0.95), (0.66, 0.95)),
        _panel("", "dark", (0.4, 1.14), (1.4, 1.14), (1.34, 1.23), (0.46, 1.23)),
        _panel("", "plate", (0.66, 1.0), (1.14, 1.0), (1.14, 1.1), (0.66, 1.1)),
    )


def _rear() -> tuple[Panel, ...]:
    lamp = _panel("tail_lamp", "tail_lamp", (0.06, 0.58), (0.36, 0.56), (0.34, 0.78), (0.07, 0.82))
    wheel_left, wheel_right, roof, flank, other = _faces()
    flanks = [Panel("quarter_panel", panel.material, panel.outline) for panel in (flank, other)]
    return (
        wheel_left,
        wheel_right,
        roof,
        *flanks,
        _panel("trunk", "body", (0.22, 0.48), (1.58, 0.48), (1.64, 0.88), (0.16, 0.88)),
        _panel(
            "rear_bumper", "bumper", (0.04, 0.86), (1.76, 0.86), (1.78, 1.1), (1.66, 1.28), (0.14, 1.28), (0.02, 1.1)
        ),
        _panel("window", "glass", (0.42, 0.45), (0.52, 0.13), (1.28, 0.13), (1.38, 0.45)),
        lamp,
        _mirrored(lamp),
        _panel("", "plate", (0.66, 0.66), (1.14, 0.66), (1.14, 0.77), (0.66, 0.77)),
        _panel("", "chrome", (0.76, 0.6), (1.04, 0.6), (1.04, 0.63), (0.76, 0.63)),
        _panel("", "dark", (0.4, 1.2), (1.4, 1.2), (1.36, 1.27), (0.44, 1.27)),
    )


VIEWS: dict[str, tuple[Panel, ...]] = {"side": _side(), "front": _front(), "rear": _rear()}
"""The panels of each view; later ones are in front."""
