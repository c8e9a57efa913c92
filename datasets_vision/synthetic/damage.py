"""Damage to painted sheet metal, plastic and glass: functions that change a picture and return the alpha (0..1).

Light comes from above, so a bowl is dark at its upper edge and bright at its lower one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.spots import Spot, blob, polar, random_path
from datasets_vision.synthetic.textures import (
    Field,
    Picture,
    blend,
    filled,
    grain,
    grid,
    hsv,
    noise,
    shade,
    soften,
    step,
    strokes,
)


def dent(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A pressed-in bowl: reflections in the sheet are pulled together, and its walls are lit from above."""
    size = len(picture)
    distance = polar(size, spot, rng.uniform(1, 1.8))[2] + np.float32(0.12) * noise(rng, size, 4)
    bowl = np.exp(-2 * distance**2).astype(np.float32)
    x, y = grid(size)
    pull = bowl * np.float32(rng.uniform(0.2, 0.5))
    moved = cv2.remap(
        picture,
        x + (x - np.float32(spot.x)) * pull,
        y + (y - np.float32(spot.y)) * pull,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    picture[:] = moved
    wall = (y - np.float32(spot.y)) / np.float32(spot.radius) * bowl * 2
    rim = np.exp(-((distance - 0.95) ** 2) * 60) * np.clip(wall * 2 + 0.2, 0, 1)
    strength = np.float32(0.35 + 0.6 * spot.contrast)
    shade(
        picture,
        np.asarray(np.clip(strength * (wall - 0.25 * bowl), -0.8, 0.9) + 0.35 * spot.contrast * rim, np.float32),
    )
    if rng.random() < 0.3:  # a crease where the sheet folded
        shade(picture, strokes(size, [random_path(rng, spot, 6, 0.12, 1.3)], [2]) * np.float32(-0.4))
    return step(-distance, -0.95, 0.2)


def scuff(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """One to six scratches side by side, through the paint to a paler or darker layer."""
    size = len(picture)
    long = Spot(spot.x, spot.y, spot.radius * rng.uniform(1.2, 2.2), spot.angle, spot.contrast)
    lines, widths = [], []
    for _ in range(int(rng.integers(1, 7))):
        offset, turn = rng.normal(0, 0.012 * size, 2), spot.angle + rng.normal(0, 0.04)
        there = Spot(spot.x + offset[0], spot.y + offset[1], long.radius * rng.uniform(0.5, 1), turn, 0)
        lines.append(random_path(rng, there, 8, 0.05))
        widths.append(max(1, round(size / 192 * rng.choice([1, 1, 2, 3]))))
    alpha = strokes(size, lines, widths) * np.clip(1.1 + 0.35 * noise(rng, size, 16), 0.3, 1).astype(np.float32)
    pale = picture.mean() < 0.55 or rng.random() < 0.3
    tone = hsv(rng.uniform(0.05, 0.6), rng.uniform(0, 0.12), rng.uniform(0.7, 0.95) if pale else rng.uniform(0.1, 0.3))
    blend(picture, alpha * np.float32(0.5 + 0.5 * spot.contrast), tone)
    return np.asarray(alpha, np.float32)


def crack(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A dark jagged line, sometimes forked, with a pale edge where plastic turned white."""
    size = len(picture)
    width = max(1, round(size / 192 * rng.uniform(1, 3)))
    trunk = random_path(rng, spot, 12, 0.45, 2.4)
    lines, widths = [trunk], [width]
    for _ in range(int(rng.integers(0, 3))):
        at = trunk[int(rng.integers(3, 10))]
        turn = spot.angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
        twig = random_path(rng, Spot(at[0], at[1], spot.radius * 0.45, turn, 0), 6, 0.4)
        lines.append(twig - twig[0] + at)
        widths.append(max(1, width - 1))
    alpha = strokes(size, lines, widths)
    edge = np.clip(soften(alpha, 1.2) - 0.6 * alpha, 0, 1)
    shade(picture, edge * np.float32(0.8 * spot.contrast))
    blend(picture, alpha * np.float32(0.6 + 0.4 * spot.contrast), hsv(0, 0, rng.uniform(0.0, 0.1)))
    return alpha


def paint_loss(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """Paint flaked off in ragged patches, down to primer, bare metal or rust, with a shaded edge."""
    size = len(picture)
    area = blob(rng, size, spot, 0.45, 0.5, rng.uniform(1, 2))
    fine = noise(rng, size, size / max(spot.radius, 4) * 6) * np.float32(0.5)
    alpha = step(np.asarray(area * 2 + fine * area, np.float32), rng.uniform(0.7, 1.1), 0.15)
    layer = str(rng.choice(["primer", "metal", "rust"], p=[0.45, 0.25, 0.3]))
    tone = {
        "primer": hsv(rng.uniform(0.05, 0.6), rng.uniform(0, 0.15), rng.uniform(0.5, 0.8)),
        "metal": hsv(0.6, 0.04, rng.uniform(0.55, 0.85)),
        "rust": hsv(rng.uniform(0.03, 0.07), rng.uniform(0.6, 0.85), rng.uniform(0.3, 0.55)),
    }[layer]
    rough = np.float32(0.22 if layer == "rust" else 0.07) * grain(rng, size, 0.8)
    blend(
        picture, alpha * np.float32(0.65 + 0.35 * spot.contrast), np.asarray((1 + rough)[..., None] * tone, np.float32)
    )
    edge = soften(alpha, 1.0)
    shade(picture, (np.roll(edge, -1, 0) - np.roll(edge, 1, 0)) * np.float32(0.5))
    return alpha


def shattered(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A web of rays and rings around the point of impact; the web's disc is the damage."""
    size, rays = len(picture), int(rng.integers(9, 20))
    turns = np.sort(rng.uniform(0, 2 * np.pi, rays))
    reach = spot.radius * rng.uniform(0.75, 1.25, rays)
    centre = np.array([spot.x, spot.y])
    directions = np.stack([np.cos(turns), np.sin(turns)], 1)
    tips = centre + directions * reach[:, None]
    lines = [np.stack([centre, tip]).astype(np.float32) for tip in tips]
    for ring in np.sort(rng.uniform(0.15, 0.9, int(rng.integers(2, 6)))):
        knots = centre + directions * (reach * ring * rng.uniform(0.85, 1.15, rays))[:, None]
        lines.append(np.vstack([knots, knots[:1]]).astype(np.float32))
    web = strokes(size, lines, [1] * len(lines))
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [np.round(tips).astype(np.int32)], 255)
    area = np.asarray(canvas, np.float32) / np.float32(255)
    distance = polar(size, spot)[2]
    frost = area * np.exp(-distance * 2.2).astype(np.float32) * np.clip(0.6 + 0.5 * grain(rng, size, 0.7), 0, 1)
    blend(
        picture,
        np.clip(web * np.float32(0.45 + 0.4 * spot.contrast) + frost, 0, 1),
        hsv(0.5, 0.05, rng.uniform(0.75, 0.98)),
    )
    return np.asarray(np.maximum(area, web), np.float32)


def lamp_hole(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A hole with splintered corners, dark inside, and cracks running from it."""
    size, corners = len(picture), int(rng.integers(7, 12))
    turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = spot.radius * rng.uniform(0.35, 1.1, corners)
    hole = np.stack([spot.x + reach * np.cos(turns), spot.y + reach * np.sin(turns)], 1).astype(np.float32)
    alpha = filled(size, hole)
    inside = np.clip(0.12 + 0.1 * noise(rng, size, 24), 0.01, 0.5)[..., None] * hsv(0.1, 0.1, 1)
    blend(picture, alpha * np.float32(0.75 + 0.25 * spot.contrast), np.asarray(inside, np.float32))
    shade(picture, strokes(size, [hole], [1], closed=True) * np.float32(0.8))
    cracks = [
        random_path(rng, Spot(x, y, spot.radius * 0.5, turn, 0), 5, 0.3)
        for (x, y), turn in zip(hole, turns, strict=True)
    ]
    shade(picture, strokes(size, cracks[::3], [1] * len(cracks[::3])) * np.float32(-0.5))
    return alpha
