"""What objects are made of, each a function (rng, height, width) -> texture, float32 RGB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.textures import (
    Picture,
    any_colour,
    fractal,
    grain,
    grid,
    hsv,
    mixed,
    noise,
    shade,
    step,
    streaks,
    tinted,
)

Material = Callable[[Generator, int, int], Picture]


def cardboard(rng: Generator, height: int, width: int) -> Picture:
    colour = hsv(rng.uniform(0.07, 0.1), rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.8))
    picture = tinted(grain(rng, height, width, 0.6) + fractal(rng, height, width, 3, 3), colour, 0.03)
    x, y = grid(height, width)
    across = x if rng.random() < 0.5 else y
    shade(picture, np.float32(rng.uniform(0, 0.06)) * np.sin(across * np.float32(rng.uniform(0.8, 2))))
    return picture


def glass(rng: Generator, height: int, width: int) -> Picture:
    colour = hsv(rng.uniform(0.25, 0.6), rng.uniform(0, 0.45), rng.uniform(0.45, 0.9))
    return tinted(noise(rng, height, width, 4, 2), colour, rng.uniform(0.1, 0.25))


def metal(rng: Generator, height: int, width: int) -> Picture:
    colour = hsv(rng.choice([0.6, 0.6, 0.6, 0.11]), rng.uniform(0, 0.35), rng.uniform(0.45, 0.8))
    field = noise(rng, height, width, rng.uniform(2, 7), rng.uniform(1, 4)) + 0.3 * streaks(rng, height, width, 60)
    return tinted(field, colour, rng.uniform(0.1, 0.32))


def paper(rng: Generator, height: int, width: int) -> Picture:
    colour = hsv(rng.uniform(0.05, 0.65), rng.uniform(0, 0.12), rng.uniform(0.75, 0.97))
    return tinted(fractal(rng, height, width, 4, 3), colour, rng.uniform(0.01, 0.05))


def plastic(rng: Generator, height: int, width: int) -> Picture:
    return tinted(noise(rng, height, width, 3), any_colour(rng, (0, 0.95)), rng.uniform(0.02, 0.08))


def wood(rng: Generator, height: int, width: int) -> Picture:
    x, _ = grid(height, width)
    rings = np.sin(x / max(width, 1) * np.float32(rng.uniform(15, 50)) + 3 * fractal(rng, height, width, 1.5, 2))
    hue, value = rng.uniform(0.05, 0.1), rng.uniform(0.35, 0.8)
    return mixed(step(rings, 0, 2.5), hsv(hue, 0.7, value * 0.65), hsv(hue, 0.5, value))


def fabric(rng: Generator, height: int, width: int) -> Picture:
    x, y = grid(height, width)
    pitch = np.float32(rng.uniform(0.8, 1.6))
    field = np.sin(x * pitch) * np.sin(y * pitch) + noise(rng, height, width, 5)
    return tinted(field, any_colour(rng, (0.1, 0.9)), rng.uniform(0.08, 0.2))


def fur(rng: Generator, height: int, width: int) -> Picture:
    hairs = streaks(rng, height, width, rng.uniform(5, 12), 1.3) + 0.8 * fractal(rng, height, width, 4, 3)
    hue, value = rng.uniform(0.05, 0.12), rng.uniform(0.25, 0.75)
    return mixed(step(hairs, 0, 4), hsv(hue, rng.uniform(0.1, 0.6), value * 0.35), hsv(hue, rng.uniform(0, 0.4), value))


def ceramic(rng: Generator, height: int, width: int) -> Picture:
    return tinted(noise(rng, height, width, 2), any_colour(rng, (0, 0.5)), 0.03)


def foil(rng: Generator, height: int, width: int) -> Picture:
    creases = np.abs(noise(rng, height, width, 7)) - np.abs(noise(rng, height, width, 14))
    return tinted(creases, hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.5, 0.75)), rng.uniform(0.25, 0.5))


MATERIALS: dict[str, Material] = {
    "cardboard": cardboard,
    "glass": glass,
    "metal": metal,
    "paper": paper,
    "plastic": plastic,
    "wood": wood,
    "fabric": fabric,
    "fur": fur,
    "ceramic": ceramic,
    "foil": foil,
}
