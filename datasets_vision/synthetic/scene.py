"""A drawn picture with its exact labels, and the simulated camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.textures import Field, Picture, grain, grid, noise, shade

Points = NDArray[np.float32]
"""Corners, (n, 2) of x and y."""

GOOD = "none"
MIN_PIXELS = 10  # visible pixels; smaller objects are left out
MASK_ALPHA = 0.35  # alpha above which a pixel belongs to a defect


@dataclass(frozen=True)
class SceneObject:
    """One labelled object: box is (left, top, right, bottom) in pixels, right and bottom exclusive.

    `material` is what it is made of, or what it lies on; `attributes` are written beside the name.
    """

    name: str
    box: tuple[int, int, int, int]
    material: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """image (H, W, 3) uint8 RGB; mask (H, W) uint8: 0 is background, i is objects[i - 1].

    `columns` are further facts about the whole picture.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    surface: str
    label: str
    columns: Mapping[str, str] = field(default_factory=dict)


def assemble(image: NDArray[np.uint8], drawn: Sequence[tuple[NDArray[np.bool_], str, str]], surface: str) -> Scene:
    """Make a scene from the (pixels, name, material) of each object, the later ones in front.

    Barely visible objects are dropped. The label is the largest object's name, or "none".
    """
    mask = np.zeros(image.shape[:2], np.uint8)
    for number, (inside, _, _) in enumerate(drawn, start=1):
        mask[inside] = number
    areas = np.bincount(mask.ravel(), minlength=len(drawn) + 1)
    renumber = np.zeros(256, np.uint8)
    objects: list[SceneObject] = []
    sizes: list[int] = []
    for old, (_, name, material) in enumerate(drawn, start=1):
        if areas[old] < MIN_PIXELS:
            continue
        objects.append(SceneObject(name, extent(mask == old), material))
        sizes.append(int(areas[old]))
        renumber[old] = len(objects)
    label = objects[int(np.argmax(sizes))].name if objects else GOOD
    return Scene(image, renumber[mask], tuple(objects), surface, label)


def extent(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the true pixels, right and bottom exclusive."""
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def photograph(rng: Generator, picture: Picture, grey_share: float) -> NDArray[np.uint8]:
    """Apply light, exposure, focus, grey and sensor noise; (H, W, 3) uint8. Edges do not move, so masks stay exact."""
    light(rng, picture)
    if rng.random() < grey_share:
        picture = np.repeat((picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, axis=2)
    middle = np.float32(picture.mean())
    picture = (picture - middle) * np.float32(rng.uniform(0.75, 1.25)) + middle
    picture *= np.float32(np.exp(rng.normal(0, 0.16)))
    if rng.random() < 0.35:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.1)), np.float32)
    if rng.random() < 0.7:
        picture = picture + np.float32(rng.uniform(0.004, 0.035)) * grain(rng, len(picture))[..., None]
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), np.uint8)


def light(rng: Generator, picture: Picture) -> None:
    """Apply a slanted gradient, sometimes with soft cast shadows."""
    size = len(picture)
    x, y = grid(size)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5) ** 1.5
    slope = (x / size - 0.5) * np.float32(np.cos(angle)) + (y / size - 0.5) * np.float32(np.sin(angle))
    slope *= np.float32(strength * 1.6)
    if rng.random() < 0.3:
        slope += np.float32(rng.uniform(0.03, 0.12)) * noise(rng, size, 2)
    shade(picture, np.asarray(slope, np.float32))


def projected(points: Points, matrix: NDArray[np.float64]) -> Points:
    """Map points (n, 2) of a shape to pixels (n, 2)."""
    ahead = np.c_[points, np.ones(len(points))] @ matrix.T
    return np.asarray(ahead[:, :2] / ahead[:, 2:], np.float32)


def local_coordinates(matrix: NDArray[np.float64], size: int) -> tuple[Field, Field]:
    """The shape's own (u, v) in -1..1 at each pixel, each (size, size)."""
    x, y = grid(size)
    back = np.linalg.inv(matrix).astype(np.float32)
    depth = back[2, 0] * x + back[2, 1] * y + back[2, 2]
    u, v = back[0, 0] * x + back[0, 1] * y + back[0, 2], back[1, 0] * x + back[1, 1] * y + back[1, 2]
    return u / depth, v / depth
