"""Pictures of one to four objects on plain and cluttered backgrounds."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.scene import Scene, assemble, local_coordinates, photograph, projected
from datasets_vision.synthetic.shapes import OBJECTS, Paint, Part
from datasets_vision.synthetic.textures import (
    Field,
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
    soften,
    step,
    streaks,
    tinted,
)

PLAIN_SHARE = 0.35  # share of pictures on a plain pale background, like product photos
OPACITY = {"glass": 0.55}


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


GROUNDS: dict[str, Callable[[Generator, int], Picture]] = {
    "white_ground": white_ground,
    "wood_grain": wood_grain,
    "concrete": concrete,
    "gravel": gravel,
    "carpet": carpet,
    "clutter": clutter,
}
"""The backgrounds on which objects lie, each a function (rng, size) -> picture."""


def glass(rng: Generator, size: int) -> Picture:
    colour = hsv(rng.uniform(0.25, 0.6), rng.uniform(0, 0.45), rng.uniform(0.45, 0.9))
    return tinted(noise(rng, size, 12, 6), colour, rng.uniform(0.1, 0.25))


def metal(rng: Generator, size: int) -> Picture:
    colour = hsv(rng.choice([0.6, 0.6, 0.6, 0.11]), rng.uniform(0, 0.35), rng.uniform(0.45, 0.8))
    field = noise(rng, size, rng.uniform(6, 20), rng.uniform(3, 12)) + 0.3 * streaks(rng, size, 60)
    return tinted(field, colour, rng.uniform(0.1, 0.32))


def plastic(rng: Generator, size: int) -> Picture:
    return tinted(noise(rng, size, 9), any_colour(rng, (0, 0.95)), rng.uniform(0.02, 0.08))


MATERIALS: dict[str, Callable[[Generator, int], Picture]] = {"glass": glass, "metal": metal, "plastic": plastic}


def object_scene(rng: Generator, size: int, kind: str) -> Scene:
    """One to four objects, the later ones in front; the first is of the requested kind."""
    ground = "white_ground" if rng.random() < PLAIN_SHARE else str(rng.choice(list(GROUNDS)))
    picture = GROUNDS[ground](rng, size)
    count = min(4, int(rng.geometric(0.55)))
    names = [kind] + [str(n) for n in rng.choice(list(OBJECTS), count - 1)]
    drawn = []
    for name in names:
        shape, materials = OBJECTS[name]
        material = str(rng.choice(materials))
        drawn.append((draw(rng, picture, shape(rng), material, pose(rng, size, count)), name, material))
    return assemble(photograph(rng, picture, 0.12), drawn, ground)


def pose(rng: Generator, size: int, count: int) -> NDArray[np.float64]:
    """A random homography (3, 3) from the shape's square to pixels: rotation, stretch and some perspective."""
    reach = size * np.exp(rng.uniform(np.log(0.18), np.log(0.58))) / count**0.35
    angle = rng.normal(0, 0.35) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([1, rng.uniform(0.7, 1.05)]) * reach
    linear[0, 1] += reach * rng.normal(0, 0.08)
    margin = min(0.75 * reach, 0.42 * size)
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, rng.uniform(margin, size - margin, 2)
    matrix[2, :2] = rng.normal(0, 0.08, 2)
    return matrix


def draw(
    rng: Generator, picture: Picture, parts: list[Part], material: str, matrix: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Paint the parts with one material and a cast shadow; returns the mask of the object, (H, W)."""
    size = len(picture)
    canvas, solid = picture.copy(), np.zeros((size, size), np.float32)
    u, v = local_coordinates(matrix, size)
    colours = paints(rng, material, size)
    opacity = np.float32(OPACITY.get(material, 1.0))
    for part in parts:
        alpha = filled(size, projected(part.points, matrix))
        if part.paint == "gap":
            blend(canvas, alpha, picture)
            solid *= 1 - alpha
            continue
        lit = colours[part.paint] * (1 + relief(rng, part, u, v))[..., None]
        blend(canvas, alpha * (opacity if part.paint == "body" else np.float32(1)), lit)
        np.maximum(solid, alpha, out=solid)
    edge = solid - soften(solid, 1.5)
    shade(canvas, np.float32(-rng.uniform(0, 0.6)) * np.clip(edge, 0, 1))
    cast_shadow(rng, picture, solid)
    blend(picture, solid, canvas)
    return solid > 0.5


def relief(rng: Generator, part: Part, u: Field, v: Field) -> Field:
    """How much lighter or darker the form makes a part, (size, size)."""
    middle, half = part.points.mean(0), np.maximum(np.ptp(part.points, axis=0) / 2, 1e-3)
    a, b = (u - middle[0]) / half[0], (v - middle[1]) / half[1]
    side = np.float32(rng.uniform(-0.6, 0.6))
    match part.form:
        case "tube":
            glint = np.exp(-(((a - side) / np.float32(rng.uniform(0.08, 0.25))) ** 2))
            return np.asarray(0.15 - 0.5 * a * a + 0.2 * side * a + rng.uniform(0.1, 0.8) * glint, np.float32)
        case "ball":
            glint = np.exp(-(((a - side) ** 2 + (b + 0.4) ** 2) / np.float32(rng.uniform(0.03, 0.2))))
            return np.asarray(0.15 - 0.35 * (a * a + b * b) - 0.15 * b + 0.35 * glint, np.float32)
        case "flat":
            return np.asarray(rng.uniform(-0.12, 0.12) + 0.12 * side * a, np.float32)


def paints(rng: Generator, material: str, size: int) -> dict[Paint, Picture]:
    """The colours of one object, each (size, size, 3)."""
    body = MATERIALS[material](rng, size)
    accent = any_colour(rng, (0.5, 0.95))
    pale = hsv(rng.random(), rng.uniform(0, 0.1), rng.uniform(0.8, 0.97))
    return {
        "body": body,
        "accent": np.broadcast_to(accent, body.shape),
        "light": np.asarray(body * 0.35 + pale * 0.62, np.float32),
        "deep": body * np.float32(0.15),
    }


def cast_shadow(rng: Generator, picture: Picture, solid: Field) -> None:
    """Draw a soft shadow beside the object."""
    dx, dy = rng.normal(0, 4), rng.uniform(-1, 6)
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    shadow = np.asarray(cv2.warpAffine(solid, move, solid.shape[::-1]), np.float32)
    shadow = np.asarray(cv2.blur(shadow, (k := int(rng.choice([3, 5, 9, 13])), k)), np.float32)
    shade(picture, shadow * np.float32(-rng.uniform(0.1, 0.6)))
