"""Shapes with a picture of their own: playing cards and animals; and the quickstart's held-out objects."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.shapes import Part, Points, Shape, box, mirrored, moved, oval, ragged, wheel

DIAMOND = np.array([(0, -1), (0.7, 0), (0, 1), (-0.7, 0)], np.float32)
HEART = np.array(
    [(0, 1), (-0.9, 0), (-0.9, -0.5), (-0.5, -0.9), (0, -0.5), (0.5, -0.9), (0.9, -0.5), (0.9, 0)], np.float32
)
SPADE = np.array(
    [(0, -1), (0.9, 0.1), (0.7, 0.6), (0.15, 0.35), (0.3, 1), (-0.3, 1), (-0.15, 0.35), (-0.7, 0.6), (-0.9, 0.1)],
    np.float32,
)
CLUB = wheel(3, 0.45, 1)


def pips(rng: Generator, count: int, symbol: Points, turned: bool) -> list[Part]:
    """`count` symbols in up to three columns."""
    columns = [-0.3, 0.3] if count > 3 else [0.0]
    rows = np.linspace(-0.6, 0.6, max(2, count // len(columns)))
    paint = "accent" if turned else "deep"
    return [
        Part(moved(symbol, x, float(y), 0.13, 0.0 if y < 0.1 else np.pi), "accent" if paint == "accent" else "deep")
        for x in columns
        for y in rows
    ]


def pip_card(rng: Generator) -> list[Part]:
    red = rng.random() < 0.5
    symbol = [(DIAMOND, HEART), (SPADE, CLUB)][not red][int(rng.integers(2))]
    corners = [Part(moved(symbol, s * 0.55, s * 0.8, 0.08), "accent" if red else "deep") for s in (-1, 1)]
    return [
        Part(box(-0.68, -0.97, 0.68, 0.97), "light"),
        *corners,
        *pips(rng, int(rng.integers(2, 11)), symbol, red),
    ]


def ace_card(rng: Generator) -> list[Part]:
    red = rng.random() < 0.5
    symbol = [(DIAMOND, HEART), (SPADE, CLUB)][not red][int(rng.integers(2))]
    marks = [(0.0, 0.0, 0.3), (-0.55, -0.8, 0.08), (0.55, 0.8, 0.08)]
    return [
        Part(box(-0.68, -0.97, 0.68, 0.97), "light"),
        *[Part(moved(symbol, x, y, s), "accent" if red else "deep") for x, y, s in marks],
    ]


def court_card(rng: Generator) -> list[Part]:
    frame = Part(box(-0.45, -0.72, 0.45, 0.72), "print")
    figure = [
        Part(moved(ragged(rng, oval(0, -0.35, 0.3, 0.3, 7), 0.04, 1), 0, 0, 1, turn), "accent") for turn in (0.0, np.pi)
    ]
    heads = [Part(oval(0, s * 0.48, 0.13, 0.15), "light") for s in (-1, 1)]
    corners = [Part(moved([HEART, SPADE][int(rng.integers(2))], s * 0.56, s * 0.82, 0.08), "accent") for s in (-1, 1)]
    return [Part(box(-0.68, -0.97, 0.68, 0.97), "light"), frame, *figure, *heads, *corners]


def head(x: float, y: float, size: float, masked: bool) -> list[Part]:
    """A furred head with ears, eyes and a muzzle; `masked` has a dark band across the eyes."""
    ears = [
        Part(moved(oval(0, 0, 0.3, 0.4, 9), x + s * size * 0.65, y - size * 0.75, size), "body", "ball")
        for s in (-1, 1)
    ]
    skull = [
        Part(oval(x, y, size, size * 0.85), "body", "ball"),
        Part(oval(x, y + size * 0.45, size * 0.45, size * 0.35), "light"),
    ]
    band = (
        [Part(moved(oval(0, 0, 0.32, 0.24, 10), x + s * size * 0.45, y, size, s * 0.5), "deep") for s in (-1, 1)]
        if masked
        else []
    )
    eyes = [
        Part(oval(x + s * size * 0.4, y, size * 0.12, size * 0.12, 8), "deep" if not masked else "light")
        for s in (-1, 1)
    ]
    return [*ears, *skull, *band, *eyes, Part(oval(x, y + size * 0.32, size * 0.15, size * 0.11, 8), "deep")]


def sitting_animal(rng: Generator) -> list[Part]:
    tail = [Part(ragged(rng, oval(0.6, 0.65, 0.35, 0.16, 12), 0.02, 1), "dark")]
    legs = [Part(oval(s * 0.28, 0.85, 0.18, 0.13, 10), "dark") for s in (-1, 1)]
    body = Part(ragged(rng, oval(0, 0.3, rng.uniform(0.42, 0.58), 0.62, 20), 0.025, 2), "body", "ball")
    return [
        *tail,
        body,
        *legs,
        *head(rng.uniform(-0.15, 0.15), -0.45, rng.uniform(0.33, 0.45), rng.random() < 0.6),
    ]


def standing_animal(rng: Generator) -> list[Part]:
    legs = [Part(box(x - 0.08, 0.2, x + 0.08, rng.uniform(0.75, 0.95)), "dark") for x in (-0.4, -0.15, 0.3, 0.5)]
    tail = [
        Part(moved(oval(0, 0, 0.1, 0.13, 10), 0.65 + i * 0.09, -0.1 - i * 0.1), "dark" if i % 2 else "body")
        for i in range(4)
    ]
    body = Part(ragged(rng, oval(0.05, 0.05, 0.65, 0.36, 20), 0.025, 2), "body", "ball")
    return [*legs, *tail, body, *head(-0.62, rng.uniform(-0.4, -0.1), rng.uniform(0.25, 0.34), rng.random() < 0.6)]


def bird(rng: Generator) -> list[Part]:
    beak = np.array([(-0.8, -0.45), (-1, -0.36), (-0.75, -0.3)], np.float32)
    tail = np.array([(0.4, 0.1), (1, 0.25), (0.95, 0.5), (0.3, 0.4)], np.float32)
    wing = ragged(rng, oval(0.15, 0.15, 0.42, 0.22, 12), 0.02, 1)
    legs = [Part(box(x, 0.45, x + 0.04, 0.9), "dark") for x in (-0.05, 0.15)]
    return [
        *legs,
        Part(beak, "accent"),
        Part(tail, "dark"),
        Part(oval(0, 0.1, 0.55, 0.42), "body", "ball"),
        Part(oval(-0.55, -0.4, 0.26, 0.25), "body", "ball"),
        Part(wing, "dark"),
        Part(oval(-0.62, -0.45, 0.05, 0.05, 8), "deep"),
    ]


def fish(rng: Generator) -> list[Part]:
    tail = np.array([(0.5, 0), (1, -0.45), (0.85, 0), (1, 0.45)], np.float32)
    fin = np.array([(-0.2, -0.3), (0.15, -0.7), (0.3, -0.25)], np.float32)
    stripes = [Part(box(x, -0.28, x + 0.08, 0.28), "accent") for x in (-0.2, 0.1)] if rng.random() < 0.5 else []
    return [
        Part(tail, "dark"),
        Part(fin, "dark"),
        Part(oval(-0.15, 0, 0.75, 0.4), "body", "ball"),
        *stripes,
        Part(oval(-0.6, -0.08, 0.07, 0.07, 8), "deep"),
    ]


STARTER_PICTURED: dict[str, tuple[Shape, tuple[str, ...]]] = {
    "pip_card": (pip_card, ("paper",)),
    "ace_card": (ace_card, ("paper",)),
    "court_card": (court_card, ("paper",)),
    "sitting_animal": (sitting_animal, ("fur",)),
    "standing_animal": (standing_animal, ("fur",)),
    "bird": (bird, ("fur", "fabric")),
    "fish": (fish, ("metal", "plastic")),
}


def padlock(rng: Generator) -> list[Part]:
    lift = rng.uniform(0, 0.2)
    shackle = [
        Part(oval(0, -0.3 - lift, 0.48, 0.6), "light", "ball"),
        Part(oval(0, -0.3 - lift, 0.3, 0.42), "gap"),
    ]
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
        parts.append(Part(moved(blade, 0, 0.05, 1, side * spread), "body"))
        parts += [
            Part(oval(side * 0.36, 0.65, 0.3, 0.32), "accent", "ball"),
            Part(oval(side * 0.36, 0.65, 0.17, 0.19), "gap"),
        ]
    return [*parts, Part(oval(0, 0.1, 0.07, 0.07, 8), "deep")]


QUICKSTART_OBJECTS: dict[str, tuple[Shape, tuple[str, ...]]] = {
    "padlock": (padlock, ("metal",)),
    "spanner": (spanner, ("metal",)),
    "light_bulb": (light_bulb, ("glass",)),
    "fork": (fork, ("metal", "plastic")),
    "scissors": (scissors, ("metal",)),
}
