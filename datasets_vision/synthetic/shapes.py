"""The shapes of objects: polygons in a square of -1..1 (x right, y down), painted in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Points = NDArray[np.float32]
Paint = Literal["body", "accent", "dark", "light", "print", "deep", "gap"]
Form = Literal["flat", "tube", "ball", "creased"]


@dataclass(frozen=True)
class Part:
    """One polygon (n, 2). Paint "gap" cuts the object away again; form says how light falls on it."""

    points: Points
    paint: Paint = "body"
    form: Form = "flat"


Shape = Callable[[Generator], list[Part]]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def oval(x: float, y: float, wide: float, tall: float, corners: int = 28) -> Points:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + wide * np.cos(turn), y + tall * np.sin(turn)], 1).astype(np.float32)


def mirrored(profile: Sequence[tuple[float, float]]) -> Points:
    """The outline whose right side is the profile of (half width, y) from the top down."""
    right = list(profile)
    return np.array(right + [(-x, y) for x, y in reversed(right)], np.float32)


def wheel(teeth: int, inner: float, outer: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, teeth * 4, endpoint=False)
    reach = np.where(np.arange(teeth * 4) % 4 < 2, outer, inner)
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], 1).astype(np.float32)


def ragged(rng: Generator, outline: Points, amount: float, each: int = 4) -> Points:
    """The outline with `each` jittered points a side."""
    ends = np.roll(outline, -1, 0)
    along = np.linspace(0, 1, each, endpoint=False)[None, :, None]
    dense = (outline[:, None] * (1 - along) + ends[:, None] * along).reshape(-1, 2)
    return np.asarray(dense + rng.normal(0, amount, dense.shape), np.float32)


def moved(points: Points, x: float, y: float, scale: float = 1.0, angle: float = 0.0) -> Points:
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + [x, y], np.float32)


def bottle(rng: Generator) -> list[Part]:
    wide, neck, shoulder = rng.uniform(0.28, 0.42), rng.uniform(0.08, 0.16), rng.uniform(-0.5, -0.15)
    body = mirrored([(neck, -0.9), (neck, shoulder - 0.2), (wide, shoulder), (wide, 0.95), (wide * 0.9, 1)])
    label = box(-wide, shoulder + rng.uniform(0.1, 0.3), wide, rng.uniform(0.5, 0.85))
    parts = [Part(body, "body", "tube"), Part(box(-neck * 1.2, -1, neck * 1.2, -0.82), "accent", "tube")]
    return [*parts, Part(label, "print", "tube")] if rng.random() < 0.7 else parts


def jar(rng: Generator) -> list[Part]:
    body = mirrored([(0.5, -0.7), (0.6, -0.55), (0.6, 0.9), (0.5, 1)])
    return [Part(body, "body", "tube"), Part(box(-0.55, -0.95, 0.55, -0.65), "accent", "tube")]


def can(rng: Generator) -> list[Part]:
    wide, lid = rng.uniform(0.45, 0.75), rng.uniform(0.08, 0.3)
    parts = [Part(box(-wide, -0.8, wide, 0.8), "print" if rng.random() < 0.6 else "body", "tube")]
    parts.append(Part(oval(0, 0.8, wide, lid), "body", "tube"))
    return [*parts, Part(oval(0, -0.8, wide, lid), "light"), Part(oval(0, -0.8, wide * 0.85, lid * 0.8), "deep")]


def carton(rng: Generator) -> list[Part]:
    """A closed box seen from a corner: front, side and top."""
    deep, rise = rng.uniform(0.25, 0.7), rng.uniform(0.15, 0.4)
    front = box(-0.8, -0.5, 0.8 - deep, 0.9)
    side = np.array([(0.8 - deep, -0.5), (0.8, -0.5 - rise), (0.8, 0.9 - rise), (0.8 - deep, 0.9)], np.float32)
    top = np.array([(-0.8, -0.5), (-0.8 + deep, -0.5 - rise), (0.8, -0.5 - rise), (0.8 - deep, -0.5)], np.float32)
    face: Paint = "print" if rng.random() < 0.5 else "body"
    return [Part(front, face), Part(side, "dark"), Part(top, "light")]


def open_box(rng: Generator) -> list[Part]:
    lip = rng.uniform(0.15, 0.4)
    rim = np.array([(-0.8, -0.3), (-0.4, -0.7), (0.9, -0.7), (0.6, -0.3)], np.float32)
    front = box(-0.8, -0.3, 0.6, 0.8)
    side = np.array([(0.6, -0.3), (0.9, -0.7), (0.9, 0.4), (0.6, 0.8)], np.float32)
    flap = np.array([(-0.8, -0.3), (0.6, -0.3), (0.7, -0.3 + lip), (-0.95, -0.3 + lip)], np.float32)
    return [Part(front), Part(side, "dark"), Part(rim, "deep"), Part(flap, "light")]


def flat_board(rng: Generator) -> list[Part]:
    sheet = ragged(rng, box(-0.9, -0.7, 0.9, 0.7), 0.05, 5)
    fold = rng.uniform(-0.4, 0.4)
    return [Part(sheet), Part(box(fold - 0.02, -0.68, fold + 0.02, 0.68), "dark")]


def gear(rng: Generator) -> list[Part]:
    teeth = int(rng.integers(8, 18))
    hub = rng.uniform(0.12, 0.3)
    return [
        Part(wheel(teeth, 0.75, 1)),
        Part(oval(0, 0, 0.55, 0.55), "dark"),
        Part(oval(0, 0, hub + 0.12, hub + 0.12)),
        Part(oval(0, 0, hub, hub), "gap"),
    ]


def bolt(rng: Generator) -> list[Part]:
    thick = rng.uniform(0.14, 0.24)
    parts = [Part(box(-thick, -0.7, thick, 1), "body", "tube"), Part(box(-0.4, -1, 0.4, -0.6), "body", "tube")]
    for y in np.arange(-0.2, 0.95, 0.14):
        ridge = np.array([(-thick, y), (thick, y + 0.07), (thick, y + 0.12), (-thick, y + 0.05)], np.float32)
        parts.append(Part(ridge, "dark"))
    return parts


def nut(rng: Generator) -> list[Part]:
    return [
        Part(oval(0, 0, 0.95, 0.95, 6)),
        Part(oval(0, 0, 0.6, 0.6), "light"),
        Part(oval(0, 0, 0.48, 0.48), "gap"),
    ]


def washer(rng: Generator) -> list[Part]:
    hole = rng.uniform(0.35, 0.65)
    return [Part(oval(0, 0, 0.95, 0.95)), Part(oval(0, 0, hole, hole), "gap")]


def cup(rng: Generator) -> list[Part]:
    handle = [Part(oval(0.6, 0.05, 0.38, 0.42), "body", "ball"), Part(oval(0.6, 0.05, 0.22, 0.27), "gap")]
    body = [Part(mirrored([(0.62, -0.8), (0.62, 0.5), (0.45, 0.9)]), "body", "tube")]
    return [*handle, *body, Part(oval(0, -0.8, 0.62, 0.17), "light"), Part(oval(0, -0.78, 0.54, 0.12), "deep")]


def paper_cup(rng: Generator) -> list[Part]:
    body = mirrored([(0.62, -0.9), (0.42, 0.95)])
    lid = Part(box(-0.68, -1, 0.68, -0.85), "light", "tube")
    return [Part(body, "print" if rng.random() < 0.6 else "body", "tube"), lid]


def key(rng: Generator) -> list[Part]:
    parts = [
        Part(oval(0, -0.6, 0.38, 0.38)),
        Part(oval(0, -0.68, 0.13, 0.13), "gap"),
        Part(box(-0.09, -0.3, 0.09, 1)),
    ]
    for y in rng.uniform(0.35, 0.95, int(rng.integers(2, 5))):
        parts.append(Part(box(0.05, y - 0.06, 0.05 + rng.uniform(0.1, 0.25), y + 0.04)))
    return parts


def sheet(rng: Generator) -> list[Part]:
    return [
        Part(ragged(rng, box(-0.75, -0.95, 0.75, 0.95), 0.01), "print"),
        Part(box(-0.7, -0.9, 0.7, -0.6), "body"),
    ]


def crumpled_paper(rng: Generator) -> list[Part]:
    return [Part(ragged(rng, oval(0, 0, 0.9, 0.75, 9), 0.1, 3), "body", "creased")]


def crushed_can(rng: Generator) -> list[Part]:
    body = ragged(rng, box(-0.5, -0.8, 0.5, 0.8), 0.1, 3)
    return [Part(body, "print", "creased"), Part(ragged(rng, oval(0.05, -0.8, 0.5, 0.2, 9), 0.03, 1), "light")]


def bag(rng: Generator) -> list[Part]:
    sack = ragged(rng, mirrored([(0.3, -0.6), (0.75, -0.1), (0.8, 0.8), (0.4, 0.95)]), 0.05, 3)
    ears = [Part(ragged(rng, box(x - 0.12, -1, x + 0.12, -0.5), 0.04, 2), "body", "creased") for x in (-0.25, 0.25)]
    return [*ears, Part(sack, "body", "creased")]


def packet(rng: Generator) -> list[Part]:
    pouch = ragged(rng, mirrored([(0.6, -0.9), (0.52, -0.7), (0.65, 0), (0.52, 0.7), (0.6, 0.9)]), 0.02, 2)
    return [
        Part(pouch, "print", "creased"),
        Part(box(-0.6, -0.92, 0.6, -0.75), "light"),
        Part(box(-0.6, 0.75, 0.6, 0.92), "light"),
    ]


def ball(rng: Generator) -> list[Part]:
    parts = [Part(oval(0, 0, 0.95, 0.95), "body", "ball")]
    if rng.random() < 0.6:
        parts.append(Part(oval(0, 0, 0.94, rng.uniform(0.12, 0.35)), "accent", "ball"))
    return parts


def book(rng: Generator) -> list[Part]:
    pages = np.array([(-0.7, 0.85), (0.7, 0.85), (0.8, 0.98), (-0.6, 0.98)], np.float32)
    return [
        Part(pages, "light"),
        Part(box(-0.75, -0.95, 0.7, 0.87), "accent"),
        Part(box(-0.55, -0.7, 0.5, -0.1), "print"),
        Part(box(-0.75, -0.95, -0.62, 0.87), "dark"),
    ]


def leaf(rng: Generator) -> list[Part]:
    y = np.linspace(-1, 1, 14)
    half = 0.5 * np.cos(y * np.pi / 2) ** 0.8 * (1 + 0.12 * np.sin(y * rng.uniform(8, 20)))
    outline = mirrored(list(zip(half.tolist(), y.tolist(), strict=True)))
    veins = [
        Part(np.array([(0, v), (s * 0.35, v - 0.3), (s * 0.35, v - 0.26)], np.float32), "dark")
        for v in (-0.2, 0.2, 0.6)
        for s in (-1, 1)
    ]
    return [Part(outline), Part(box(-0.02, -0.95, 0.02, 1.0), "dark"), *veins]


def pen(rng: Generator) -> list[Part]:
    tip = np.array([(-0.1, 0.75), (0.1, 0.75), (0, 1)], np.float32)
    return [
        Part(box(-0.1, -1, 0.1, 0.75), "body", "tube"),
        Part(tip, "dark"),
        Part(box(-0.1, -1, 0.1, rng.uniform(-0.8, -0.2)), "accent", "tube"),
    ]


def battery(rng: Generator) -> list[Part]:
    split = rng.uniform(-0.5, 0.3)
    return [
        Part(box(-0.12, -1, 0.12, -0.85), "light", "tube"),
        Part(box(-0.35, -0.88, 0.35, 1), "body", "tube"),
        Part(box(-0.35, -0.88, 0.35, split), "accent", "tube"),
    ]


def tyre(rng: Generator) -> list[Part]:
    parts = [
        Part(wheel(24, 0.94, 1), "dark"),
        Part(oval(0, 0, 0.62, 0.62), "light"),
        Part(oval(0, 0, 0.2, 0.2), "dark"),
    ]
    spokes = int(rng.integers(4, 9))
    return parts + [
        Part(moved(box(0.22, -0.06, 0.58, 0.06), 0, 0, 1, t), "deep") for t in np.arange(spokes) * 2 * np.pi / spokes
    ]


def plate(rng: Generator) -> list[Part]:
    return [
        Part(oval(0, 0, 0.98, 0.98)),
        Part(oval(0, 0, 0.95, 0.95), "light"),
        Part(oval(0, 0, 0.66, 0.66), "dark"),
        Part(oval(0, 0, 0.64, 0.64)),
    ]


STARTER_RIGID: dict[str, tuple[Shape, tuple[str, ...]]] = {
    "bottle": (bottle, ("glass", "plastic")),
    "jar": (jar, ("glass", "plastic", "ceramic")),
    "can": (can, ("metal",)),
    "crushed_can": (crushed_can, ("metal", "foil")),
    "carton": (carton, ("cardboard", "paper", "plastic")),
    "open_box": (open_box, ("cardboard", "wood")),
    "flat_board": (flat_board, ("cardboard", "wood")),
    "gear": (gear, ("metal", "plastic")),
    "bolt": (bolt, ("metal",)),
    "nut": (nut, ("metal",)),
    "washer": (washer, ("metal", "plastic")),
    "cup": (cup, ("ceramic", "metal")),
    "paper_cup": (paper_cup, ("paper", "plastic")),
    "key": (key, ("metal",)),
    "sheet": (sheet, ("paper",)),
    "crumpled_paper": (crumpled_paper, ("paper", "foil")),
    "bag": (bag, ("plastic", "paper", "fabric")),
    "packet": (packet, ("foil", "plastic")),
    "ball": (ball, ("plastic", "fabric")),
    "book": (book, ("paper",)),
    "leaf": (leaf, ("plastic", "fabric")),
    "pen": (pen, ("plastic", "metal")),
    "battery": (battery, ("metal", "plastic")),
    "tyre": (tyre, ("plastic",)),
    "plate": (plate, ("ceramic", "plastic")),
}
