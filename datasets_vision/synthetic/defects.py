"""The starter's kinds of defect, each a function that changes a picture and tells where (alpha, 0..1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.textures import (
    Colour,
    Field,
    Picture,
    any_colour,
    blend,
    grain,
    grid,
    hsv,
    noise,
    shade,
    soften,
    step,
    strokes,
)


@dataclass(frozen=True)
class Spot:
    """Where a defect goes: centre and radius in pixels, angle in radians, contrast in 0 (unseen) .. 1."""

    x: float
    y: float
    radius: float
    angle: float
    contrast: float


Defect = Callable[[Generator, Picture, Spot], Field]


def polar(size: int, spot: Spot, aspect: float = 1.0) -> tuple[Field, Field, Field]:
    """(u, v, distance) about the spot, turned by its angle, 1 at the radius; u is stretched by `aspect`."""
    x, y = grid(size, size)
    cos, sin = np.float32(np.cos(spot.angle)), np.float32(np.sin(spot.angle))
    x, y = x - np.float32(spot.x), y - np.float32(spot.y)
    u, v = (x * cos + y * sin) / np.float32(spot.radius * aspect), (y * cos - x * sin) / np.float32(spot.radius)
    return np.asarray(u, np.float32), np.asarray(v, np.float32), np.asarray(np.sqrt(u * u + v * v), np.float32)


def blob(rng: Generator, size: int, spot: Spot, rough: float, soft: float, aspect: float = 1.0) -> Field:
    """An uneven disc, alpha (size, size)."""
    distance = polar(size, spot, aspect)[2]
    fine = size / max(spot.radius, 4) * 2
    return step(-distance + np.float32(rough) * noise(rng, size, size, fine), -0.8, soft)


def walk(rng: Generator, spot: Spot, steps: int, wander: float, length: float = 2.0) -> NDArray[np.float32]:
    """A random path of `length` radii through the spot, (steps + 1, 2) pixels."""
    turns = spot.angle + np.cumsum(rng.normal(0, wander, steps))
    stride = spot.radius * length / steps
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * stride, 0)
    path = np.vstack([np.zeros((1, 2)), path])
    return np.asarray(path - path.mean(0) + [spot.x, spot.y], np.float32)


def dark(rng: Generator, spot: Spot) -> Colour:
    return hsv(rng.uniform(0, 0.15), rng.uniform(0, 0.4), 0.35 * (1 - spot.contrast))


def scratch(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    lines, widths = [], []
    for _ in range(int(rng.integers(1, 4))):
        offset = rng.normal(0, spot.radius * 0.12, 2)
        there = Spot(spot.x + offset[0], spot.y + offset[1], spot.radius, spot.angle + rng.normal(0, 0.05), 0)
        lines.append(walk(rng, there, 6, 0.03))
        widths.append(int(rng.choice([1, 1, 2, 2, 3, 5])))
    alpha = strokes(size, lines, widths)
    if rng.random() < 0.6:
        alpha = soften(alpha, 0.6) * np.clip(1 + 0.4 * noise(rng, size, size, 20), 0.2, 1)
    shade(picture, alpha * np.float32(rng.choice([1, 1, -0.7]) * (0.2 + spot.contrast)))
    return alpha


def crack(rng: Generator, picture: Picture, spot: Spot) -> Field:
    trunk = walk(rng, spot, 14, 0.45)
    lines, widths = [trunk], [int(rng.integers(1, 3))]
    for _ in range(int(rng.integers(0, 4))):
        at = trunk[int(rng.integers(3, 12))]
        twig = Spot(at[0], at[1], spot.radius * 0.4, spot.angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2), 0)
        path = walk(rng, twig, 7, 0.45)
        lines.append(path - path[0] + at)
        widths.append(1)
    alpha = strokes(len(picture), lines, widths)
    blend(picture, alpha * np.float32(0.3 + 0.7 * spot.contrast), dark(rng, spot))
    return alpha


def pit(rng: Generator, picture: Picture, spot: Spot) -> Field:
    canvas = np.zeros(picture.shape[:2], np.uint8)
    for dx, dy in rng.normal(0, 0.4 * spot.radius, (int(rng.integers(4, 28)), 2)):
        radii = (int(rng.integers(1, 4)), int(rng.integers(1, 3)))
        cv2.ellipse(
            canvas,
            (round(spot.x + dx), round(spot.y + dy)),
            radii,
            rng.uniform(0, 180),
            0,
            360,
            255,
            -1,
            cv2.LINE_AA,
        )
    alpha = np.asarray(canvas, np.float32) / np.float32(255)
    rim = np.roll(alpha, (1, 1), (0, 1)) * (1 - alpha)
    shade(picture, np.float32(0.25 + 0.6 * spot.contrast) * (0.5 * rim - alpha))
    return alpha


def stain(rng: Generator, picture: Picture, spot: Spot) -> Field:
    alpha = blob(rng, len(picture), spot, 0.25, rng.uniform(0.2, 0.9), rng.uniform(1, 1.6))
    rim = alpha * (1 - alpha) * np.float32(rng.uniform(0, 2))
    tone = hsv(rng.uniform(0, 1), rng.uniform(0, 0.7), rng.uniform(0.1, 0.5))
    blend(picture, (alpha * 0.8 + rim * 0.3) * np.float32(0.15 + 0.55 * spot.contrast), tone)
    return alpha


def dent(rng: Generator, picture: Picture, spot: Spot) -> Field:
    u, _, distance = polar(len(picture), spot, rng.uniform(1, 1.5))
    bowl = np.exp(-(distance**2) * 2)
    shade(picture, u * bowl * np.float32(rng.choice([-1, 1]) * (0.5 + 1.5 * spot.contrast)))
    glint = np.exp(-((distance - 0.8) ** 2) * 40) * (u > 0.3)
    shade(picture, np.asarray(glint * 0.5 * spot.contrast, np.float32))
    return step(-distance, -0.9, 0.2)


def inclusion(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    alpha = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        dx, dy = rng.normal(0, 0.3 * spot.radius, 2)
        there = Spot(spot.x + dx, spot.y + dy, spot.radius * rng.uniform(0.08, 0.2), spot.angle, 0)
        alpha = np.maximum(alpha, blob(rng, size, there, 0.2, 0.5, rng.uniform(3, 6)))
    blend(picture, alpha * np.float32(0.25 + 0.7 * spot.contrast), dark(rng, spot))
    return alpha


def patch(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    cells = rng.uniform(8, 30)
    area = blob(rng, size, spot, 0.3, 0.6, rng.uniform(0.8, 1.6))
    alpha = step(area * 2 + noise(rng, size, size, cells) * 0.6, rng.uniform(1.2, 1.7), 0.35)
    shade(picture, alpha * np.float32(rng.choice([-1, -1, 0.7]) * (0.12 + 0.4 * spot.contrast)))
    return alpha


def crazing(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    cells = rng.uniform(12, 32)
    first, second = noise(rng, size, size, cells), noise(rng, size, size, cells, cells * rng.uniform(0.5, 1))
    net = np.exp(-((np.minimum(np.abs(first), np.abs(second)) / np.float32(0.12)) ** 2))
    area = blob(rng, size, spot, 0.2, 0.8, rng.uniform(0.8, 1.5))
    shade(picture, net * area * np.float32(rng.choice([-1, -1, 0.8]) * (0.15 + 0.5 * spot.contrast)))
    return area


def rolled_scale(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    area = blob(rng, size, spot, 0.25, 0.8, rng.uniform(0.8, 1.5))
    count = max(12, int(0.02 * np.pi * spot.radius**2))
    canvas = np.zeros((size, size), np.uint8)
    for (dx, dy), tone in zip(rng.normal(0, 0.5 * spot.radius, (count, 2)), rng.integers(120, 255, count), strict=True):
        at = np.array([spot.x + dx, spot.y + dy])
        tail = at + rng.uniform(2, 7) * np.array([np.cos(spot.angle), np.sin(spot.angle)])
        cv2.line(
            canvas,
            (int(at[0]), int(at[1])),
            (int(tail[0]), int(tail[1])),
            int(tone),
            int(rng.integers(1, 3)),
            cv2.LINE_AA,
        )
    flecks = np.asarray(canvas, np.float32) / np.float32(255) * np.clip(area * 3, 0, 1)
    shade(picture, flecks * np.float32(rng.choice([-1, -1, 0.8]) * (0.2 + 0.5 * spot.contrast)))
    return step(soften(flecks, 2.5), 0.12, 0.1)


def burr(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    u, v, _ = polar(size, spot)
    height = np.float32(0.12) + np.float32(0.12) * np.abs(noise(rng, size, size, size / 4, 2))
    alpha = step(height - np.abs(v), 0, 0.08) * step(-np.abs(u), -1, 0.1)
    shade(picture, alpha * (np.float32(0.3 + 0.9 * spot.contrast) * np.sign(v + 0.05)))
    return alpha


def hole(rng: Generator, picture: Picture, spot: Spot) -> Field:
    small = Spot(spot.x, spot.y, max(4.0, spot.radius * 0.45), spot.angle, spot.contrast)
    u, v, distance = polar(len(picture), small, rng.uniform(1, 1.25))
    alpha = step(-distance, -0.9, 0.15)
    rim = np.exp(-((distance - 1) ** 2) * 60) * (u + v)
    blend(picture, alpha * np.float32(0.5 + 0.5 * spot.contrast), hsv(0, 0, rng.uniform(0, 0.12)))
    shade(picture, np.asarray(rim * (0.2 + 0.4 * spot.contrast), np.float32))
    return alpha


def missing_print(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    u, v, _ = polar(size, Spot(spot.x, spot.y, spot.radius, spot.angle * 0.1, 0))
    rows = int(rng.integers(3, 6))
    bars = (np.floor((v + 1) * rows * 2) % 2 == 0) & (np.sin(u * rng.uniform(14, 26) + np.floor(v * rows) * 2.4) > -0.3)
    plate = step(np.minimum(1.2 - np.abs(u), 1 - np.abs(v)), 0, 0.05)
    gap = step(np.minimum(rng.uniform(0.3, 0.6) - np.abs(u - rng.uniform(-0.5, 0.5)), 0.95 - np.abs(v)), 0, 0.2)
    ink = plate * bars.astype(np.float32) * (1 - gap * np.float32(rng.uniform(0.85, 1)))
    tone = any_colour(rng, (0, 0.9)) * (0.4 if picture.mean() > 0.45 else 1.4)
    blend(picture, ink * np.float32(0.4 + 0.6 * spot.contrast), tone)
    return gap


def bubble(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    alpha = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 6))):
        dx, dy = rng.normal(0, 0.4 * spot.radius, 2)
        there = Spot(spot.x + dx, spot.y + dy, max(3.0, spot.radius * rng.uniform(0.12, 0.4)), spot.angle, 0)
        u, v, distance = polar(size, there)
        ring = np.exp(-((distance - 0.85) ** 2) * 40)
        glint = np.exp(-((u + 0.35) ** 2 + (v + 0.35) ** 2) * 18)
        shade(picture, np.float32(0.3 + 0.7 * spot.contrast) * (glint * 1.2 - ring * 0.6 * np.sign(u + v + 0.6)))
        alpha = np.maximum(alpha, step(-distance, -1, 0.15))
    return alpha


def rust(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    area = blob(rng, size, spot, 0.3, 0.9)
    speckle = noise(rng, size, size, size / 4) * 0.5 + noise(rng, size, size, size / 10) * 0.5
    alpha = step(np.asarray(1.6 * area + 0.7 * speckle, np.float32), 1.0, 0.5) * step(area, 0.1, 0.1)
    tone = hsv(rng.uniform(0.02, 0.08), rng.uniform(0.55, 0.9), rng.uniform(0.25, 0.6))
    paint = np.clip(1 + 0.35 * grain(rng, size, size, 0.7), 0.2, 2)[..., None] * tone
    blend(picture, alpha * np.float32(0.4 + 0.6 * spot.contrast), np.asarray(paint, np.float32))
    return alpha


def peeling(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size, corners = len(picture), int(rng.integers(5, 9))
    turn = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = spot.radius * rng.uniform(0.5, 1.1, corners)
    flake = np.stack([spot.x + reach * np.cos(turn), spot.y + reach * np.sin(turn)], 1).astype(np.float32)
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [np.int32(np.round(flake))], 255, cv2.LINE_AA)
    alpha = np.asarray(canvas, np.float32) / np.float32(255)
    shadow = np.roll(soften(alpha, 1.5), (2, 2), (0, 1)) * (1 - alpha)
    shade(picture, np.asarray(-0.5 * shadow, np.float32))
    base = hsv(rng.uniform(0, 1), rng.uniform(0, 0.4), rng.uniform(0.2, 0.9))
    blend(picture, alpha * np.float32(0.3 + 0.6 * spot.contrast), base)
    shade(picture, strokes(size, [flake], [1], closed=True) * np.float32(0.6 * spot.contrast))
    return alpha


def spatter(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    canvas = np.zeros((size, size), np.uint8)
    for dx, dy in rng.normal(0, 0.5 * spot.radius, (int(rng.integers(5, 22)), 2)):
        cv2.circle(canvas, (round(spot.x + dx), round(spot.y + dy)), int(rng.integers(1, 5)), 255, -1, cv2.LINE_AA)
    alpha = np.asarray(canvas, np.float32) / np.float32(255)
    shade(picture, -0.4 * np.roll(alpha, (1, 1), (0, 1)) * (1 - alpha))
    blend(
        picture,
        alpha * np.float32(0.3 + 0.65 * spot.contrast),
        hsv(0.1, rng.uniform(0, 0.2), rng.uniform(0.75, 1)),
    )
    return alpha


def wrinkle(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    u, v, distance = polar(size, spot, 1.4)
    phase = v * rng.uniform(8, 16) + np.float32(1.5) * noise(rng, size, size, 6) + u
    area = step(-distance, -0.8, 0.6)
    shade(picture, np.sin(phase) * area * np.float32(0.15 + 0.45 * spot.contrast))
    return area


def abrasion(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    _, v, distance = polar(size, spot, 1.3)
    fine = noise(rng, size, size, 3) + np.sin(v * 60 + 4 * noise(rng, size, size, 3)) * noise(rng, size, size, 30, 30)
    area = step(-distance + 0.2 * noise(rng, size, size, 10), -0.8, 0.7)
    shade(picture, area * np.clip(fine, -0.5, 2) * np.float32(0.12 + 0.4 * spot.contrast))
    return area


def heat_tint(rng: Generator, picture: Picture, spot: Spot) -> Field:
    size = len(picture)
    distance = polar(size, spot, rng.uniform(1, 2))[2] + 0.1 * noise(rng, size, size, 6)
    bands = np.stack([np.cos(distance * 9 + shift) for shift in (0, 2.1, 4.2)], -1) * 0.5 + 0.5
    area = step(-distance, -0.75, 0.6)
    picture *= 1 + (area * np.float32(0.2 + 0.6 * spot.contrast))[..., None] * (bands - 0.6)
    return area


def groove(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A bright or dark strip right across, as in rolled strip and ground tiles."""
    size = len(picture)
    thin = Spot(
        spot.x,
        spot.y,
        spot.radius * rng.uniform(0.06, 0.2) + 1,
        rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.03),
        0,
    )
    _, v, _ = polar(size, thin)
    ragged = np.abs(v) + 0.15 * noise(rng, size, size, size / 6, size / 6)
    alpha = step(-ragged, -0.8, 0.6)
    shade(picture, alpha * np.float32(rng.choice([1, 1, -0.6]) * (0.25 + 0.8 * spot.contrast)))
    return alpha


STARTER_KINDS: dict[str, Defect] = {
    "scratch": scratch,
    "crack": crack,
    "pit": pit,
    "stain": stain,
    "dent": dent,
    "inclusion": inclusion,
    "patch": patch,
    "crazing": crazing,
    "rolled_scale": rolled_scale,
    "burr": burr,
    "hole": hole,
    "missing_print": missing_print,
    "bubble": bubble,
    "rust": rust,
    "peeling": peeling,
    "spatter": spatter,
    "wrinkle": wrinkle,
    "abrasion": abrasion,
    "heat_tint": heat_tint,
    "groove": groove,
}
