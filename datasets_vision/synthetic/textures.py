"""The noise, colours and blends from which all procedural pictures are made.

Pictures are float32 RGB in 0..1, (size, size, 3), and are changed in place; fields are float32 (size, size). All
randomness comes from the given generator.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]
Picture = NDArray[np.float32]
Colour = NDArray[np.float32]


def noise(rng: Generator, size: int, across: float, down: float | None = None) -> Field:
    """Smooth noise of about unit variance, with `across` x `down` features."""
    rows, columns = max(2, round(down or across)) + 2, max(2, round(across)) + 2
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def fractal(rng: Generator, size: int, across: float, octaves: int, decay: float = 0.6) -> Field:
    """Noise over several scales, each `decay` times weaker and twice as fine."""
    total = noise(rng, size, across)
    weight, power = 1.0, 1.0
    for _ in range(octaves - 1):
        across, weight = across * 2, weight * decay
        total += np.float32(weight) * noise(rng, size, min(across, size))
        power += weight**2
    return total / np.float32(np.sqrt(power))


def grain(rng: Generator, size: int, sigma: float = 0.0) -> Field:
    """White noise, softened by `sigma` pixels but kept at unit variance."""
    field = rng.standard_normal((size, size), dtype=np.float32)
    if sigma <= 0:
        return field
    field = np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)
    return field / np.float32(field.std() + 1e-6)


def streaks(rng: Generator, size: int, length: float, fine: float = 1.0) -> Field:
    """Vertical streaks `length` pixels long and about `fine` pixels wide, unit variance."""
    field = noise(rng, size, size / fine, max(2.0, size / length))
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


@lru_cache(maxsize=16)
def grid(size: int) -> tuple[Field, Field]:
    """Pixel coordinates (x, y); they are cached, so never write to them."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return x, y


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB in 0..1, (3,)."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(1, max(0, saturation)), min(1, max(0, value))), np.float32)


def any_colour(rng: Generator, saturation: tuple[float, float] = (0.2, 0.95)) -> Colour:
    return hsv(rng.random(), rng.uniform(*saturation), rng.uniform(0.25, 0.95))


def tinted(field: Field, colour: Colour, strength: float) -> Picture:
    """`colour` made lighter and darker by the field."""
    return np.asarray((1 + np.float32(strength) * field)[..., None] * colour, np.float32)


def mixed(share: Field, low: Colour, high: Colour) -> Picture:
    """Interpolate from `low` to `high` by a share in 0..1."""
    return low + share[..., None] * (high - low)


def blend(picture: Picture, alpha: Field, paint: Picture | Colour) -> None:
    """Cover the picture with `paint` where alpha is 1."""
    picture += alpha[..., None] * (paint - picture)


def shade(picture: Picture, amount: Field) -> None:
    """Lighten (above 0) or darken (below 0) the picture by a share."""
    picture *= (1 + amount)[..., None]


def step(field: Field, edge: float, width: float) -> Field:
    """0 below the edge and 1 above it, with a transition of `width` (smoothstep)."""
    t = np.clip((field - (edge - width / 2)) / width, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def strokes(size: int, lines: list[NDArray[np.float32]], thickness: list[int], closed: bool = False) -> Field:
    """Anti-aliased polylines, alpha (size, size); points are (n, 2) x, y in pixels."""
    canvas = np.zeros((size, size), np.uint8)
    for points, width in zip(lines, thickness, strict=True):
        cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], closed, 255, width, cv2.LINE_AA, 4)
    return np.asarray(canvas, np.float32) / np.float32(255)


def filled(size: int, polygon: NDArray[np.float32]) -> Field:
    """An anti-aliased filled polygon, alpha (size, size); points are (n, 2) x, y in pixels."""
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(canvas, np.float32) / np.float32(255)


def soften(field: Field, sigma: float) -> Field:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)
