"""The backgrounds on which objects lie, each a function (rng, size) -> picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.textures import (
    Picture,
    any_colour,
    blend,
    filled,
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

Ground = Callable[[Generator, int], Picture]


def wood_grain(rng: Generator, size: int) -> Picture:
    x, y = grid(size)
    waves = rng.uniform(3, 14)
    bend = x / size * waves + 0.5 * fractal(rng, size, 2, 2) + 0.4 * y / size
    rings = np.sin(2 * np.pi * bend) * 0.5 + 0.5 * streaks(rng, size, 60, 1.5)
    hue, value = rng.uniform(0.05, 0.11), rng.uniform(0.35, 0.85)
    picture = mixed(step(rings, 0, 2.5), hsv(hue, 0.65, value * 0.6), hsv(hue + 0.01, 0.45, value))
    for cut in range(int(rng.integers(0, 4))):
        at = (cut + rng.random()) * size / 3
        shade(picture, -np.float32(0.5) * np.exp(-(((x - at) / 1.2) ** 2)))
    return picture if rng.random() < 0.5 else np.ascontiguousarray(picture.swapaxes(0, 1))


def concrete(rng: Generator, size: int) -> Picture:
    field = fractal(rng, size, 3, 5, 0.7) + 0.5 * grain(rng, size, 0.6)
    picture = tinted(field, hsv(0.1, rng.uniform(0, 0.12), rng.uniform(0.4, 0.75)), rng.uniform(0.05, 0.13))
    pores = step(noise(rng, size, size / 5), rng.uniform(2.0, 2.6), 0.5)
    shade(picture, -0.4 * pores)
    return picture


def white_ground(rng: Generator, size: int) -> Picture:
    picture = tinted(
        noise(rng, size, 2), hsv(rng.uniform(0.05, 0.65), rng.uniform(0, 0.12), rng.uniform(0.7, 0.97)), 0.04
    )
    x, y = grid(size)
    if rng.random() < 0.3:  # the edge of the sheet
        side = np.cos(t := rng.uniform(0, 6.3)) * (x - size / 2) + np.sin(t) * (y - size / 2)
        shade(picture, -np.float32(rng.uniform(0.1, 0.5)) * step(side, rng.uniform(0.3, 0.6) * size, rng.uniform(2, 9)))
    return picture


def gravel(rng: Generator, size: int) -> Picture:
    cells = rng.uniform(18, 50)
    stones = np.abs(noise(rng, size, cells)) + 0.4 * noise(rng, size, cells / 2) + 0.15 * grain(rng, size)
    return tinted(
        stones - 0.7,
        hsv(rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.35), rng.uniform(0.35, 0.65)),
        rng.uniform(0.2, 0.4),
    )


def carpet(rng: Generator, size: int) -> Picture:
    field = grain(rng, size, rng.uniform(0.6, 1.2)) + 0.6 * fractal(rng, size, 4, 3)
    picture = tinted(field, any_colour(rng, (0.05, 0.7)), rng.uniform(0.08, 0.25))
    if rng.random() < 0.4:
        x, y = grid(size)
        stripes = np.sin((x * rng.uniform(-1, 1) + y) * 2 * np.pi / rng.uniform(25, 90))
        blend(picture, step(np.asarray(stripes, np.float32), rng.uniform(-0.5, 0.5), 0.1) * 0.7, any_colour(rng))
    return picture


def clutter(rng: Generator, size: int) -> Picture:
    picture = tinted(fractal(rng, size, 3, 3), any_colour(rng, (0, 0.7)), 0.15)
    for _ in range(int(rng.integers(4, 10))):
        centre, spread = rng.uniform(0, size, 2), rng.uniform(10, size * 0.5)
        corners = np.asarray(centre + rng.normal(0, spread, (int(rng.integers(3, 6)), 2)), np.float32)
        blend(picture, filled(size, corners) * np.float32(rng.uniform(0.4, 1)), any_colour(rng, (0, 0.8)))
    shade(picture, 0.08 * fractal(rng, size, 8, 3))
    return picture


GROUNDS: dict[str, Ground] = {
    "white_ground": white_ground,
    "wood_grain": wood_grain,
    "concrete": concrete,
    "gravel": gravel,
    "carpet": carpet,
    "clutter": clutter,
}
