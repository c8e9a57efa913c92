"""Pictures of cars, intact and damaged: the domain of car damage."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets_vision.synthetic.cars import VIEWS, Material, Panel
from datasets_vision.synthetic.damage import crack, dent, lamp_hole, paint_loss, scuff, shattered
from datasets_vision.synthetic.scene import (
    GOOD,
    MASK_ALPHA,
    Points,
    Scene,
    assemble,
    local_coordinates,
    photograph,
    projected,
)
from datasets_vision.synthetic.severity import Measure, graded
from datasets_vision.synthetic.spots import Defect, Spot
from datasets_vision.synthetic.textures import (
    Colour,
    Field,
    Picture,
    any_colour,
    fractal,
    grain,
    hsv,
    noise,
    shade,
    soften,
    tinted,
)

CAR_DAMAGE: dict[str, tuple[Defect, tuple[Material, ...]]] = {
    "dent": (dent, ("body", "bumper")),
    "scratch": (scuff, ("body", "bumper")),
    "paint_damage": (paint_loss, ("body", "bumper")),
    "crack": (crack, ("bumper",)),
    "shattered_glass": (shattered, ("glass",)),
    "broken_lamp": (lamp_hole, ("headlamp", "tail_lamp")),
}
"""By kind: the function that draws it, and the materials on which it can occur."""

MEASURES = {
    "dent": Measure("area", 0.02, 0.045),
    "paint_damage": Measure("area", 0.01, 0.025),
    "shattered_glass": Measure("area", 0.02, 0.05),
    "broken_lamp": Measure("area", 0.005, 0.012),
    "scratch": Measure("length", 0.18, 0.3),
    "crack": Measure("length", 0.12, 0.2),
}
REPLACED = ("shattered_glass", "broken_lamp")
SECOND_DAMAGE_SHARE = 0.35  # share of damaged cars with a second damaged area, of any kind
MIN_PANEL_SHARE = 0.012  # share of the picture that a panel must fill to be damaged


def car_scene(rng: Generator, size: int, kind: str) -> Scene:
    """A part of a car, near or far, with up to three damaged areas, the first of the requested kind ("none": intact).

    Each area lies on one part, within its outline. The surface is the view. Columns: `severity`, the worst by MEASURES,
    and `action`.
    """
    fitting = [name for name, panels in VIEWS.items() if any(panel.material in _materials(kind) for panel in panels)]
    view = str(rng.choice(fitting))
    panels, matrix = VIEWS[view], np.eye(3)
    ids = np.zeros((size, size), np.uint8)
    while not _places(panels, ids, kind):  # the first draw usually suffices
        matrix = _camera(rng, panels, size, kind)
        bend = tuple(np.float32(rng.uniform(0, most)) for most in (0.05, 6, 0.04, 6))
        ids = _ids([projected(_bent(panel.outline, bend), matrix) for panel in panels], size)
    picture = _render(rng, panels, ids, matrix)
    drawn = []
    for damage in _kinds(rng, panels, ids, kind):
        place = int(rng.choice(_places(panels, ids, damage)))
        drawn.append((_damage(rng, picture, damage, ids == place), damage, panels[place - 1].name))
    scene = graded(assemble(photograph(rng, picture, 0.05), drawn, view), MEASURES)
    return replace(scene, columns={**scene.columns, "action": _action(scene)})


def _action(scene: Scene) -> str:
    """A rule for these pictures: glass, lamps and severely damaged parts are replaced; everything else is repaired."""
    if not scene.objects:
        return "no_action"
    severe = any(obj.attributes["severity"] == "severe" or obj.name in REPLACED for obj in scene.objects)
    return "replace" if severe else "repair"


def _materials(kind: str) -> tuple[Material, ...]:
    """The materials on which a kind can occur; for an intact car, those that the picture must show."""
    return CAR_DAMAGE[kind][1] if kind != GOOD else ("body", "bumper")


def _places(panels: tuple[Panel, ...], ids: NDArray[np.uint8], kind: str) -> list[int]:
    """The ids of the visible panels on which the kind can occur."""
    areas = np.bincount(ids.ravel(), minlength=len(panels) + 1) / ids.size
    possible = [panel.name and panel.material in _materials(kind) for panel in panels]
    return [place for place, fits in enumerate(possible, start=1) if fits and areas[place] > MIN_PANEL_SHARE]


def _kinds(rng: Generator, panels: tuple[Panel, ...], ids: NDArray[np.uint8], kind: str) -> list[str]:
    """The kinds of damage in one picture, `kind` first."""
    if kind == GOOD:
        return []
    possible = [other for other in CAR_DAMAGE if _places(panels, ids, other)]
    more = int(rng.random() < SECOND_DAMAGE_SHARE) + int(rng.random() < SECOND_DAMAGE_SHARE / 3)
    return [kind, *(str(other) for other in rng.choice(possible, more))]


def _bent(points: Points, bend: tuple[np.float32, ...]) -> Points:
    """Vary the shape of the car, with the same smooth bend for all panels, so that they still meet."""
    along, start, up, other = bend
    x, y = points[:, 0], points[:, 1]
    return np.stack([x + along * np.sin(2 * x + start), y + up * np.sin(1.5 * x + other)], 1).astype(np.float32)


def _camera(rng: Generator, panels: tuple[Panel, ...], size: int, kind: str) -> NDArray[np.float64]:
    """Metres to pixels, (3, 3): near or far, tilted, sometimes mirrored, aimed at a panel that can have the kind."""
    targets = [panel for panel in panels if panel.name and panel.material in _materials(kind)]
    target = targets[int(rng.integers(len(targets)))].outline
    width = float(np.exp(rng.uniform(np.log(0.9), np.log(2.6))))  # metres across the picture
    scale, angle = size / width, rng.normal(0, 0.07)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([rng.choice([-1, 1]) * rng.uniform(0.75, 1), 1.0]) * scale
    linear[0, 1] += scale * rng.normal(0, 0.06)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = size / 2 + rng.uniform(-0.22, 0.22, 2) * size - linear @ (target.min(0) + target.max(0)) / 2
    shift = np.eye(3)
    shift[2, :2] = rng.normal(0, 0.1, 2) / size
    return np.asarray(shift @ matrix / (shift @ matrix)[2, 2])


def _ids(outlines: list[Points], size: int) -> NDArray[np.uint8]:
    """The panel visible at each pixel, (size, size): 0 is background, i is panels[i - 1]."""
    ids = np.zeros((size, size), np.uint8)
    for place, outline in enumerate(outlines, start=1):
        cv2.fillPoly(ids, [np.round(outline * 16).astype(np.int32)], place, cv2.LINE_8, 4)
    return ids


def _render(rng: Generator, panels: tuple[Panel, ...], ids: NDArray[np.uint8], matrix: NDArray[np.float64]) -> Picture:
    size = len(ids)
    _, height = local_coordinates(matrix, size)  # metres below the roof
    picture = _street(rng, height)
    colours, gloss = _paints(rng, panels)
    car = ids > 0
    tone = colours[ids]
    lit = _reflection(rng, height)
    shade(tone, np.asarray(lit * gloss[ids] + 0.02 * grain(rng, size, 0.6), np.float32))
    picture[car] = tone[car]
    edges = np.asarray(cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0, np.float32)
    shade(picture, np.where(car, soften(edges, 0.45 * max(1, size / 192)), 0) * np.float32(-rng.uniform(0.4, 0.8)))
    return picture


def _street(rng: Generator, height: Field) -> Picture:
    """The wall behind the car, and the ground below it."""
    size = len(height)
    wall = tinted(fractal(rng, size, rng.uniform(2, 7), 3), any_colour(rng, (0, 0.25)), rng.uniform(0.04, 0.2))
    ground = tinted(grain(rng, size, 0.8), hsv(0.1, rng.uniform(0, 0.15), rng.uniform(0.2, 0.55)), 0.08)
    below = np.clip((height - np.float32(rng.uniform(1.1, 1.35))) * 12, 0, 1)[..., None]
    return np.asarray(wall + below * (ground - wall), np.float32)


def _paints(rng: Generator, panels: tuple[Panel, ...]) -> tuple[Picture, Field]:
    """The colour of each id, (panels + 1, 3), and its gloss, (panels + 1,)."""
    grey = hsv(0.6, rng.uniform(0, 0.08), rng.choice([0.1, 0.3, 0.55, 0.75, 0.88]))
    body = (
        grey
        if rng.random() < 0.6
        else hsv(rng.choice([0.0, 0.02, 0.58, 0.63, 0.33, 0.12]), rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.75))
    )
    plain: dict[Material, tuple[Colour, float]] = {
        "body": (body, 1.0),
        "bumper": (body if rng.random() < 0.7 else hsv(0, 0, rng.uniform(0.12, 0.3)), 0.7),
        "glass": (hsv(0.55, rng.uniform(0.05, 0.25), rng.uniform(0.1, 0.35)), 1.2),
        "headlamp": (hsv(0.55, rng.uniform(0, 0.1), rng.uniform(0.7, 0.95)), 0.8),
        "tail_lamp": (hsv(rng.uniform(-0.02, 0.02), rng.uniform(0.7, 0.95), rng.uniform(0.4, 0.75)), 0.8),
        "rubber": (hsv(0, 0, rng.uniform(0.06, 0.14)), 0.2),
        "rim": (hsv(0.6, 0.03, rng.uniform(0.4, 0.75)), 0.4),
        "dark": (hsv(0, 0, rng.uniform(0.03, 0.12)), 0.2),
        "chrome": (hsv(0.6, 0.03, rng.uniform(0.3, 0.85)), 1.0),
        "plate": (hsv(0.13, rng.choice([0.0, 0.6]), 0.85), 0.2),
    }
    chosen = [plain[panel.material] for panel in panels]
    colours = np.stack([np.zeros(3, np.float32)] + [colour for colour, _ in chosen])
    colours *= rng.uniform(0.95, 1.05, (len(colours), 1)).astype(np.float32)
    return colours, np.array([0.0] + [gloss for _, gloss in chosen], np.float32)


def _reflection(rng: Generator, height: Field) -> Field:
    """Reflections of the sky above a waist line, the ground below it and the surroundings, as a share of the colour."""
    size = len(height)
    waist = np.float32(rng.uniform(0.65, 0.95)) + np.float32(0.03) * noise(rng, size, 3)
    sky = np.tanh((waist - height) * np.float32(rng.uniform(4, 20))) * np.float32(rng.uniform(0.05, 0.22))
    crease = np.exp(-(((height - np.float32(rng.uniform(0.75, 1.0))) * 45) ** 2)) * np.float32(rng.uniform(-0.2, 0.25))
    return np.asarray(sky + crease + rng.uniform(0.02, 0.1) * noise(rng, size, 4, 2), np.float32)


def _damage(rng: Generator, picture: Picture, kind: str, part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Draw the damage on the part and nowhere else; returns its mask, (size, size)."""
    size, area = len(part), int(part.sum())
    depth = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 3)
    rows, columns = np.nonzero(depth >= 0.5 * depth.max())
    chosen = int(rng.integers(len(rows)))
    reach = float(np.clip(np.exp(rng.uniform(np.log(0.05), np.log(0.26))) * size, 5, 0.6 * np.sqrt(area) + 2))
    spot = Spot.at(rng, columns[chosen], rows[chosen], reach, 0.4)
    damaged = picture.copy()
    alpha = CAR_DAMAGE[kind][0](rng, damaged, spot)
    picture[part] = damaged[part]
    return np.asarray((alpha > MASK_ALPHA) & part, np.bool_)
