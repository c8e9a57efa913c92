"""A spot where a defect is drawn, and the shapes that defects of all domains share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.textures import Field, Picture, grid, noise, step


@dataclass(frozen=True)
class Spot:
    """Where a defect goes: centre and radius in pixels, angle in radians, contrast from 0 (invisible) to 1."""

    x: float
    y: float
    radius: float
    angle: float
    contrast: float

    @classmethod
    def at(cls, rng: Generator, x: float, y: float, radius: float, min_contrast: float) -> Spot:
        """A spot with a random angle and a contrast of at least `min_contrast`."""
        angle, contrast = rng.uniform(0, 2 * np.pi), rng.uniform(min_contrast, 1)
        return cls(float(x), float(y), float(radius), float(angle), float(contrast))


Defect = Callable[[Generator, Picture, Spot], Field]


def polar(size: int, spot: Spot, aspect: float = 1.0) -> tuple[Field, Field, Field]:
    """(u, v, distance) around the spot, rotated by its angle, 1 at the radius; u is stretched by `aspect`."""
    x, y = grid(size)
    cos, sin = np.float32(np.cos(spot.angle)), np.float32(np.sin(spot.angle))
    x, y = x - np.float32(spot.x), y - np.float32(spot.y)
    u, v = (x * cos + y * sin) / np.float32(spot.radius * aspect), (y * cos - x * sin) / np.float32(spot.radius)
    return np.asarray(u, np.float32), np.asarray(v, np.float32), np.asarray(np.sqrt(u * u + v * v), np.float32)


def blob(rng: Generator, size: int, spot: Spot, rough: float, soft: float, aspect: float = 1.0) -> Field:
    """An uneven disc, alpha (size, size)."""
    distance = polar(size, spot, aspect)[2]
    fine = size / max(spot.radius, 4) * 2
    return step(-distance + np.float32(rough) * noise(rng, size, fine), -0.8, soft)


def random_path(rng: Generator, spot: Spot, steps: int, wander: float, length: float = 2.0) -> NDArray[np.float32]:
    """A random path of `length` radii through the spot, (steps + 1, 2) pixels."""
    turns = spot.angle + np.cumsum(rng.normal(0, wander, steps))
    stride = spot.radius * length / steps
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * stride, 0)
    path = np.vstack([np.zeros((1, 2)), path])
    return np.asarray(path - path.mean(0) + [spot.x, spot.y], np.float32)
