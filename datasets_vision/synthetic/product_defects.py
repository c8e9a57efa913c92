"""Pictures of product surfaces, good and defective: three surfaces, five kinds of defect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.scene import GOOD, MASK_ALPHA, Scene, assemble, photograph
from datasets_vision.synthetic.spots import Defect, Spot, polar
from datasets_vision.synthetic.textures import (
    Field,
    Picture,
    blend,
    filled,
    fractal,
    grain,
    grid,
    hsv,
    noise,
    shade,
    soften,
    step,
    strokes,
    tinted,
)


def enamel(rng: Generator, size: int) -> Picture:
    """A pale, glossy surface as on white goods, with a soft reflection of a window."""
    picture = tinted(
        noise(rng, size, 3), hsv(rng.uniform(0.1, 0.6), rng.uniform(0.02, 0.2), rng.uniform(0.62, 0.82)), 0.02
    )
    x, y = grid(size)
    slant = (x + rng.uniform(-0.5, 0.5) * y - rng.uniform(0, size)) / np.float32(rng.uniform(15, 50))
    shade(picture, np.asarray(rng.uniform(0.02, 0.1) * np.exp(-slant * slant), np.float32))
    return picture


def anodised(rng: Generator, size: int) -> Picture:
    """Coloured aluminium with a bead-blasted sparkle."""
    colour = hsv(rng.choice([0.0, 0.08, 0.55, 0.62, 0.8]), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.65))
    return tinted(grain(rng, size, 0.5) + 0.8 * fractal(rng, size, 2, 2), colour, rng.uniform(0.03, 0.07))


def laminate(rng: Generator, size: int) -> Picture:
    """A stone-effect worktop, with chips in three tones."""
    base = hsv(rng.uniform(0.05, 0.15), rng.uniform(0.05, 0.3), rng.uniform(0.5, 0.7))
    picture = tinted(fractal(rng, size, 3, 2), base, 0.04)
    flakes = noise(rng, size, size / 5)
    shade(picture, 0.16 * step(flakes, 1.0, 0.3) - 0.16 * step(-flakes, 1.0, 0.3))
    return picture


def chip(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A star-shaped flake broken out, with flat facets and a light rim."""
    size, corners = len(picture), int(rng.integers(7, 11))
    turn = spot.angle + np.arange(corners) * 2 * np.pi / corners
    reach = (
        spot.radius * np.where(np.arange(corners) % 2, rng.uniform(0.45, 0.65), 1.0) * rng.uniform(0.85, 1.1, corners)
    )
    rim = np.stack([spot.x + reach * np.cos(turn), spot.y + reach * np.sin(turn)], 1).astype(np.float32)
    alpha = filled(size, rim)
    base = hsv(rng.uniform(0, 0.1), rng.uniform(0, 0.4), rng.uniform(0.12, 0.3))
    blend(picture, alpha * np.float32(0.45 + 0.5 * spot.contrast), base)
    for near, far in zip(rim, np.roll(rim, -1, 0), strict=True):
        facet = np.array([near, far, (spot.x, spot.y)], np.float32)
        shade(picture, filled(size, facet) * np.float32(rng.uniform(-0.3, 0.5)))
    blend(picture, strokes(size, [rim], [1], closed=True) * 0.6, np.ones(3, np.float32))
    return alpha


def paint_run(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """Drips that hang from a line, each ending in a drop with a glint."""
    size = len(picture)
    x, y = grid(size)
    alpha = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        at = spot.x + rng.uniform(-0.7, 0.7) * spot.radius
        top, foot = spot.y - spot.radius * rng.uniform(0.7, 1), spot.y + spot.radius * rng.uniform(0.2, 1)
        along = np.clip((y - top) / np.float32(foot - top), 0, 1)
        wide = spot.radius * (0.08 + 0.16 * along**3)
        inside = np.sqrt(
            ((x - at) / wide) ** 2 + (np.maximum(y - foot, 0) / wide) ** 2 + (np.maximum(top - y, 0) / 2) ** 2
        )
        drip = step(-inside, -0.9, 0.3)
        shade(picture, drip * ((x - at) / wide) * np.float32(-0.35 - 0.4 * spot.contrast))
        glint = np.exp(-(((x - at + wide / 3) / 1.5) ** 2 + ((y - foot) / np.float32(0.12 * spot.radius)) ** 2))
        shade(picture, np.asarray(glint * 0.8, np.float32))
        alpha = np.maximum(alpha, drip)
    shade(picture, alpha * np.float32(-0.15 - 0.25 * spot.contrast))
    return alpha


def fingerprint(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """An oval of fine curved ridges."""
    size = len(picture)
    u, v, distance = polar(size, spot, 0.72)
    core = np.sqrt(u * u + (v - 0.25) ** 2) + 0.25 * np.abs(u) * v + np.float32(0.06) * noise(rng, size, 8)
    ridges = np.sin(core * np.float32(spot.radius * 2 * np.pi / rng.uniform(4.2, 5.5)))
    area = step(-distance + 0.12 * noise(rng, size, 9), -0.9, 0.3)
    tone = rng.choice([-1.0, 1.0])
    shade(picture, area * step(ridges, 0.1, 0.8) * np.float32(tone * (0.14 + 0.25 * spot.contrast)))
    return area


def stray_fibre(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """A hair under the lacquer: one long, curling thread, dark or light."""
    steps = 48
    bends = rng.uniform(0.15, 0.32) * np.sin(np.arange(steps) / rng.uniform(3, 6) + rng.uniform(0, 6))
    turns = spot.angle + np.cumsum(bends + rng.normal(0, 0.1, steps))
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)
    path -= (path.max(0) + path.min(0)) / 2
    path *= spot.radius / np.abs(path).max()
    line = np.asarray(path + np.array([spot.x, spot.y]), np.float32)
    alpha = strokes(len(picture), [line], [int(rng.integers(1, 3))])
    shade(picture, -0.3 * np.roll(soften(alpha, 1.2), (2, 2), (0, 1)))
    tone = hsv(rng.uniform(0, 1), rng.uniform(0, 0.6), rng.choice([0.08, 0.95]))
    blend(picture, alpha * np.float32(0.55 + 0.4 * spot.contrast), tone)
    return alpha


def ring_mark(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """The mark of a wet cup: one or two thin, broken rings."""
    size = len(picture)
    alpha = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        dx, dy = rng.normal(0, 0.1 * spot.radius, 2)
        distance = polar(size, Spot(spot.x + dx, spot.y + dy, spot.radius, spot.angle, 0), rng.uniform(0.9, 1.05))[2]
        broken = np.clip(1 + 0.5 * noise(rng, size, 7), 0, 1)
        alpha = np.maximum(alpha, np.exp(-(((distance - 0.9) * spot.radius / rng.uniform(1.5, 3)) ** 2)) * broken)
    tone = hsv(rng.uniform(0.03, 0.1), rng.uniform(0.3, 0.8), rng.uniform(0.1, 0.35))
    blend(picture, alpha * np.float32(0.35 + 0.5 * spot.contrast), tone)
    return np.asarray(alpha, np.float32)


SURFACES: dict[str, Callable[[Generator, int], Picture]] = {
    "enamel": enamel,
    "anodised": anodised,
    "laminate": laminate,
}
DEFECTS: dict[str, Defect] = {
    "chip": chip,
    "paint_run": paint_run,
    "fingerprint": fingerprint,
    "stray_fibre": stray_fibre,
    "ring_mark": ring_mark,
}


def surface_scene(rng: Generator, size: int, kind: str) -> Scene:
    """One surface with one to three defects of the kind ("none": no defects)."""
    surface = str(rng.choice(list(SURFACES)))
    picture = SURFACES[surface](rng, size)
    count = 0 if kind == GOOD else min(3, int(rng.geometric(0.6)))
    drawn = [(DEFECTS[kind](rng, picture, _spot(rng, size)) > MASK_ALPHA, kind, surface) for _ in range(count)]
    return assemble(photograph(rng, picture, grey_share=0), drawn, surface)


def _spot(rng: Generator, size: int) -> Spot:
    """A spot well inside the picture, with a radius of 12 to 24 % of the side."""
    radius = size * np.exp(rng.uniform(np.log(0.12), np.log(0.24)))
    x, y = rng.uniform(radius, size - radius, 2)
    contrast = rng.uniform(0.5, 1)
    return Spot(float(x), float(y), float(radius), float(rng.uniform(0, 2 * np.pi)), float(contrast))
