"""Pictures of one to four objects on plain and cluttered backgrounds."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.grounds import GROUNDS
from datasets_vision.synthetic.scene import Scene, assemble, local_coordinates, photograph, projected
from datasets_vision.synthetic.shapes import OBJECTS, Paint, Part
from datasets_vision.synthetic.textures import (
    Field,
    Picture,
    any_colour,
    blend,
    filled,
    hsv,
    noise,
    shade,
    soften,
    streaks,
    tinted,
)

PLAIN_SHARE = 0.35  # share of pictures on a plain pale background, like product photos
OPACITY = {"glass": 0.55}


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
