"""Pictures of riveted aircraft skin, intact and defective: the domain of aviation maintenance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.damage import crack, dent
from datasets_vision.synthetic.scene import GOOD, MASK_ALPHA, Scene, assemble, local_coordinates, photograph, projected
from datasets_vision.synthetic.severity import Measure, graded
from datasets_vision.synthetic.spots import Defect, Spot, blob, random_path
from datasets_vision.synthetic.textures import (
    Field,
    Picture,
    blend,
    fractal,
    grain,
    hsv,
    noise,
    shade,
    soften,
    step,
    streaks,
    strokes,
    tinted,
)

MEASURES = {
    "corrosion": Measure("area", 0.015, 0.05),
    "crack": Measure("length", 0.15, 0.3),
    "missing_fastener": Measure("count", 2, 3),
    "dent": Measure("area", 0.02, 0.06),
    "paint_loss": Measure("area", 0.02, 0.07),
}
AVIATION_DEFECTS = tuple(MEASURES)
SECOND_DEFECT_SHARE = 0.3  # share of defective pictures with a second defect
MIN_HOLE_RADIUS = 2.4  # pixels: the smallest radius of a fastener hole, so that it stays visible

Points = NDArray[np.float32]


@dataclass(frozen=True)
class Skin:
    """A stretch of skin as the camera sees it: fasteners (n, 2) and seams (each (2, 2)) in pixels."""

    finish: Literal["bare", "painted"]
    fasteners: Points
    seams: tuple[Points, ...]
    radius: float  # of a fastener's head, pixels
    matrix: NDArray[np.float64]  # skin to pixels, (3, 3); one unit is the pitch of the fasteners


def skin_scene(rng: Generator, size: int, kind: str) -> Scene:
    """A piece of riveted skin with a defect of the requested kind ("none": intact), and sometimes one of another kind.

    Each missing fastener is a separate finding, on the part `fastener`. Other findings are on the `seam` if they cross
    one, else on the `panel`. The surface is the finish. Column: `severity`, the worst by MEASURES.
    """
    kinds = [] if kind == GOOD else [kind]
    if kinds and rng.random() < SECOND_DEFECT_SHARE:
        kinds.append(str(rng.choice([defect for defect in AVIATION_DEFECTS if defect != kind])))
    skin = _skin(rng, size, painted="paint_loss" in kinds or rng.random() < 0.65)
    holes = _chosen_holes(rng, skin, size) if "missing_fastener" in kinds else []
    picture = _render(rng, skin, size, holes)
    seams = strokes(size, list(skin.seams), [1, 1]) > 0
    drawn = []
    for defect in kinds:
        for alpha in _draw(rng, picture, skin, defect, holes):
            covered = alpha > MASK_ALPHA
            part = "fastener" if defect == "missing_fastener" else "seam" if (covered & seams).any() else "panel"
            drawn.append((covered, defect, part))
    return graded(assemble(photograph(rng, picture, 0.2), drawn, skin.finish), MEASURES)


def _skin(rng: Generator, size: int, *, painted: bool) -> Skin:
    pitch = size * float(np.exp(rng.uniform(np.log(0.06), np.log(0.12))))
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15)
    matrix, shift = np.eye(3), np.eye(3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, :2] = turn @ np.diag([1, rng.uniform(0.75, 1)]) * pitch
    matrix[:2, 2] = size / 2
    shift[2, :2] = rng.normal(0, 0.12, 2) / size
    matrix = shift @ matrix
    matrix /= matrix[2, 2]
    return _laid_out(rng, matrix, pitch, "painted" if painted else "bare")


def _laid_out(rng: Generator, matrix: NDArray[np.float64], pitch: float, finish: Literal["bare", "painted"]) -> Skin:
    """Two crossing seams, a row of fasteners on either side of each, and rows along stringers."""
    reach = 14.0
    across, down = rng.uniform(-4, 4, 2)
    run = np.arange(-reach, reach) + rng.random()
    rows = [down - 0.7, down + 0.7, *(down + step * rng.uniform(4.5, 6) for step in (-2, -1, 1, 2))]
    columns = [across - 0.7, across + 0.7]
    points = [np.stack([run, np.full_like(run, row)], 1) for row in rows]
    points += [np.stack([np.full_like(run, column), run], 1) for column in columns]
    both = np.concatenate(points)
    crowded = (np.abs(both[:, 0] - across) < 1.1) & (np.abs(both[:, 1] - down) < 1.1)
    fasteners = projected(both[~crowded].astype(np.float32), matrix)
    seams = (
        projected(np.array([[-reach, down], [reach, down]], np.float32), matrix),
        projected(np.array([[across, -reach], [across, reach]], np.float32), matrix),
    )
    return Skin(finish, fasteners, seams, max(MIN_HOLE_RADIUS, pitch * float(rng.uniform(0.14, 0.22))), matrix)


def _render(rng: Generator, skin: Skin, size: int, holes: list[int]) -> Picture:
    picture = _finish(rng, skin, size)
    shade(
        picture, strokes(size, list(skin.seams), [max(1, round(size / 130))] * 2) * np.float32(-rng.uniform(0.4, 0.8))
    )
    head = _discs(size, np.delete(skin.fasteners, holes, axis=0), skin.radius)
    dome = soften(head, max(0.6, skin.radius * 0.35))
    turn = rng.uniform(0, 2 * np.pi)
    slope = (np.roll(dome, 1, 1) - np.roll(dome, -1, 1)) * np.float32(np.cos(turn))
    slope += (np.roll(dome, 1, 0) - np.roll(dome, -1, 0)) * np.float32(np.sin(turn))
    shade(picture, np.asarray(slope * rng.uniform(0.7, 2.0) + head * rng.uniform(-0.12, 0.12), np.float32))
    return _weathered(rng, picture, skin)


def _finish(rng: Generator, skin: Skin, size: int) -> Picture:
    if skin.finish == "bare":
        lines = streaks(rng, size, rng.uniform(60, 300))
        field = 0.6 * (lines.T if rng.random() < 0.5 else lines) + 0.8 * noise(rng, size, 3)
        return tinted(field, hsv(0.6, rng.uniform(0, 0.06), rng.uniform(0.5, 0.75)), rng.uniform(0.04, 0.1))
    base = hsv(rng.uniform(0.1, 0.65), rng.uniform(0, 0.08), rng.uniform(0.65, 0.9))
    field = fractal(rng, size, 3, 3) + 0.3 * grain(rng, size, 0.7)
    picture = tinted(field, base, rng.uniform(0.01, 0.04))
    if rng.random() < 0.5:  # an airline's stripe
        u, v = local_coordinates(skin.matrix, size)
        stripe = step(np.asarray(v + rng.normal(0, 0.4) * u, np.float32), rng.uniform(-5, 5), 0.15)
        livery = hsv(rng.choice([0.0, 0.58, 0.62, 0.35, 0.1]), rng.uniform(0.4, 0.9), rng.uniform(0.25, 0.7))
        blend(picture, stripe, tinted(field, livery, 0.03))
    return picture


def _weathered(rng: Generator, picture: Picture, skin: Skin) -> Picture:
    """Add dirt, which is not a defect: smears behind a few fasteners and a haze of grime."""
    size = len(picture)
    shade(picture, np.float32(rng.uniform(0, 0.05)) * fractal(rng, size, 3, 3))
    lines = []
    for x, y in skin.fasteners[rng.integers(0, len(skin.fasteners), int(rng.integers(0, 8)))]:
        tail = rng.uniform(0.05, 0.2) * size
        lines.append(np.array([[x, y], [x + rng.normal(0, 0.1) * tail, y + tail]], np.float32))
    if lines:
        smear = soften(strokes(size, lines, [2] * len(lines)), 1.5)
        shade(picture, smear * np.float32(-rng.uniform(0.1, 0.3)))
    return picture


def _chosen_holes(rng: Generator, skin: Skin, size: int) -> list[int]:
    """The fasteners to leave out: one to four, well inside the picture, often neighbours."""
    inside = ((skin.fasteners > 0.08 * size) & (skin.fasteners < 0.92 * size)).all(1)
    places = np.flatnonzero(inside)
    first = skin.fasteners[int(rng.choice(places))]
    near = places[np.argsort(np.hypot(*(skin.fasteners[places] - first).T))]
    count = min(4, int(rng.geometric(0.5)))
    chosen = near[:count] if rng.random() < 0.5 else rng.choice(places, min(count, len(places)), replace=False)
    return [int(place) for place in chosen]


def _draw(rng: Generator, picture: Picture, skin: Skin, kind: str, holes: list[int]) -> list[Field]:
    """Draw the findings of one kind; returns the alpha of each."""
    if kind == "missing_fastener":
        return [_hole(rng, picture, skin, skin.fasteners[place]) for place in holes]
    return [_DRAW_FUNCTIONS[kind](rng, picture, _spot(rng, skin, len(picture)))]


def _spot(rng: Generator, skin: Skin, size: int) -> Spot:
    """A place for a defect; half of them begin at a fastener, where stress and water collect."""
    x, y = rng.uniform(0.2, 0.8, 2) * size
    inside = ((skin.fasteners > 0.15 * size) & (skin.fasteners < 0.85 * size)).all(1)
    if inside.any() and rng.random() < 0.5:
        x, y = skin.fasteners[int(rng.choice(np.flatnonzero(inside)))]
    radius = size * np.exp(rng.uniform(np.log(0.06), np.log(0.22)))
    return Spot.at(rng, x, y, radius, 0.4)


def _hole(rng: Generator, picture: Picture, skin: Skin, at: Points) -> Field:
    """An open hole where a fastener was: dark, with a bright countersink around it."""
    size, radius = len(picture), skin.radius
    alpha, rim = _discs(size, at[None], radius), _discs(size, at[None], radius * 1.25, max(1, round(radius / 3)))
    shade(picture, rim * np.float32(rng.uniform(0.1, 0.4)))
    blend(picture, alpha, hsv(0.08, rng.uniform(0, 0.3), rng.uniform(0.01, 0.1)))
    return alpha


def _discs(size: int, centres: Points, radius: float, thickness: int = -1) -> Field:
    """Anti-aliased circles, alpha (size, size), filled unless they have a thickness in pixels."""
    canvas = np.zeros((size, size), np.uint8)
    for x, y in centres[((centres > -8) & (centres < size + 8)).all(1)]:
        cv2.circle(canvas, (round(x * 16), round(y * 16)), round(radius * 16), 255, thickness, cv2.LINE_AA, 4)
    return np.asarray(canvas, np.float32) / np.float32(255)


def _corrosion(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """Powdery bloom and pits, whitish as on aluminium or brown as on steel."""
    size = len(picture)
    area = blob(rng, size, spot, 0.4, 0.9, rng.uniform(1, 2.2))
    speckle = noise(rng, size, size / 4) * 0.6 + noise(rng, size, size / 9) * 0.5
    alpha = step(np.asarray(1.7 * area + 0.6 * speckle, np.float32), 1.0, 0.5) * step(area, 0.1, 0.1)
    brown = rng.random() < 0.5
    tone = hsv(rng.uniform(0.03, 0.09), rng.uniform(0.5, 0.8), rng.uniform(0.25, 0.5))
    if not brown:
        tone = hsv(rng.uniform(0.1, 0.5), rng.uniform(0, 0.12), rng.uniform(0.75, 0.95))
    rough = np.float32(0.3) * grain(rng, size, 0.8)
    blend(picture, alpha * np.float32(0.5 + 0.5 * spot.contrast), np.asarray((1 + rough)[..., None] * tone, np.float32))
    shade(picture, -alpha * step(speckle, 0.8, 0.3) * np.float32(0.6))
    return alpha


def _crack(rng: Generator, picture: Picture, spot: Spot) -> Field:
    return crack(rng, picture, replace(spot, radius=spot.radius * rng.uniform(0.8, 1.4)))


def _paint_loss(rng: Generator, picture: Picture, spot: Spot) -> Field:
    """Paint peeled to green or yellow primer, or to bare metal, with a shadowed edge."""
    size = len(picture)
    area = blob(rng, size, spot, 0.35, 0.3, rng.uniform(1, 2))
    alpha = step(np.asarray(area + 0.25 * area * noise(rng, size, size / 6), np.float32), 0.5, 0.12)
    primer = hsv(rng.uniform(0.16, 0.3), rng.uniform(0.3, 0.55), rng.uniform(0.4, 0.65))
    metal = hsv(0.6, 0.03, rng.uniform(0.35, 0.6))
    tone = primer if rng.random() < 0.6 else metal
    fine = np.float32(0.06) * grain(rng, size, 0.8)
    blend(
        picture, alpha * np.float32(0.75 + 0.25 * spot.contrast), np.asarray((1 + fine)[..., None] * tone, np.float32)
    )
    edge = soften(alpha, 0.8)
    shade(picture, (np.roll(edge, -1, 0) - np.roll(edge, 1, 0)) * np.float32(0.6))
    flakes = [
        random_path(rng, replace(spot, radius=spot.radius * 0.6, angle=rng.uniform(0, 6)), 4, 0.5) for _ in range(2)
    ]
    shade(picture, strokes(size, flakes, [1, 1]) * alpha * np.float32(0.3))
    return alpha


_DRAW_FUNCTIONS: dict[str, Defect] = {"corrosion": _corrosion, "crack": _crack, "dent": dent, "paint_loss": _paint_loss}
