"""The shapes of objects: polygons in a square of -1..1 (x right, y down), painted in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.scene import Points

Paint = Literal["body", "accent", "light", "deep", "gap"]
Form = Literal["flat", "tube", "ball"]


@dataclass(frozen=True)
class Part:
    """One polygon (n, 2). The paint "gap" cuts a hole into the object; the form determines how light falls on it."""

    points: Points
    paint: Paint = "body"
    form: Form = "flat"


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def oval(x: float, y: float, wide: float, tall: float, corners: int = 28) -> Points:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + wide * np.cos(turn), y + tall * np.sin(turn)], 1).astype(np.float32)


def mirrored(profile: Sequence[tuple[float, float]]) -> Points:
    """The outline whose right side is the profile of (half width, y) from the top down."""
    right = list(profile)
    return np.array(right + [(-x, y) for x, y in reversed(right)], np.float32)


def moved(points: Points, x: float, y: float, angle: float = 0.0) -> Points:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + [x, y], np.float32)


def padlock(rng: Generator) -> list[Part]:
    lift = rng.uniform(0, 0.2)
    shackle = [Part(oval(0, -0.3 - lift, 0.48, 0.6), "light", "ball"), Part(oval(0, -0.3 - lift, 0.3, 0.42), "gap")]
    keyhole = [Part(oval(0, 0.3, 0.11, 0.11), "deep"), Part(box(-0.05, 0.3, 0.05, 0.6), "deep")]
    return [*shackle, Part(box(-0.65, -0.2, 0.65, 0.9), "body", "tube"), *keyhole]


def spanner(rng: Generator) -> list[Part]:
    heads = [Part(oval(0, s * 0.75, 0.34, 0.3, 14)) for s in (-1, 1)]
    jaws = [Part(moved(box(-0.14, -0.3, 0.14, 0.06), 0, -0.85), "gap"), Part(oval(0, 0.75, 0.16, 0.16, 6), "gap")]
    return [Part(box(-0.13, -0.7, 0.13, 0.7), "body", "tube"), *heads, *jaws]


def light_bulb(rng: Generator) -> list[Part]:
    threads = [Part(box(-0.26, y, 0.26, y + 0.06), "deep") for y in (0.5, 0.64, 0.78)]
    glow = Part(oval(0, -0.35, 0.22, 0.22), "accent", "ball")
    return [
        Part(mirrored([(0.4, 0.1), (0.26, 0.45)]), "body", "tube"),
        Part(oval(0, -0.3, 0.62, 0.62), "body", "ball"),
        glow,
        Part(box(-0.25, 0.43, 0.25, 0.9), "light", "tube"),
        *threads,
    ]


def fork(rng: Generator) -> list[Part]:
    tines = [Part(box(x - 0.045, -1, x + 0.045, -0.4), "body", "tube") for x in (-0.27, -0.09, 0.09, 0.27)]
    return [
        *tines,
        Part(mirrored([(0.315, -0.45), (0.28, -0.2), (0.08, 0)])),
        Part(mirrored([(0.07, -0.05), (0.13, 1)]), "body", "tube"),
    ]


def scissors(rng: Generator) -> list[Part]:
    spread = rng.uniform(0.15, 0.45)
    parts = []
    for side in (-1, 1):
        blade = np.array([(-0.08, 0.15), (0.08, 0.15), (0, -1.1)], np.float32)
        parts.append(Part(moved(blade, 0, 0.05, side * spread), "body"))
        parts += [
            Part(oval(side * 0.36, 0.65, 0.3, 0.32), "accent", "ball"),
            Part(oval(side * 0.36, 0.65, 0.17, 0.19), "gap"),
        ]
    return [*parts, Part(oval(0, 0.1, 0.07, 0.07, 8), "deep")]


OBJECTS: dict[str, tuple[Callable[[Generator], list[Part]], tuple[str, ...]]] = {
    "padlock": (padlock, ("metal",)),
    "spanner": (spanner, ("metal",)),
    "light_bulb": (light_bulb, ("glass",)),
    "fork": (fork, ("metal", "plastic")),
    "scissors": (scissors, ("metal",)),
}
"""By name: the shape, and the materials that it can be made of."""
