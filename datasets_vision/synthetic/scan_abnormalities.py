"""Phantoms: grey pictures that imitate a chest film, or an axial slice of an abdomen or a head, with lesions.

They are made of ellipses and noise and contain no medical knowledge; a model trained on them only learns to find
spots that do not belong. Not for diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.scene import GOOD, Scene, assemble
from datasets_vision.synthetic.severity import URGENCIES, Measure, graded
from datasets_vision.synthetic.spots import Spot, blob
from datasets_vision.synthetic.textures import Field, fractal, grain, grid, noise, soften, step

Modality = Literal["X-ray", "CT", "MR"]
MASK_ALPHA = 0.4  # alpha above which a pixel belongs to a lesion


@dataclass
class Phantom:
    """A body without lesions: grey (size, size), roughly 0..1, and where each kind of lesion may occur."""

    grey: Field
    u: Field  # across the body, -1..1
    v: Field  # down the body, -1..1
    room: dict[str, Field]


@dataclass(frozen=True)
class Lesion:
    """A kind of lesion: the modality of the phantom in which `draw` draws it, and the organ that it lies in."""

    modality: Modality
    organ: str
    measure: Measure
    draw: Callable[[Generator, Phantom, Field], Field]


def scan_scene(rng: Generator, size: int, kind: str) -> Scene:
    """One phantom with lesions of the requested kind, or without any ("none").

    Columns: `modality`, `severity` (the worst by MEASURES) and `urgency`. A lesion's part is its organ.
    """
    modality = str(rng.choice(sorted(PHANTOMS))) if kind == GOOD else LESIONS[kind].modality
    phantom = PHANTOMS[modality](rng, size)
    free = np.ones((size, size), np.bool_)
    drawn = []
    for _ in range(_count(rng, kind)):
        covered = free & (LESIONS[kind].draw(rng, phantom, phantom.room[kind]) > MASK_ALPHA)
        free &= ~covered
        drawn.append((covered, kind, LESIONS[kind].organ))
    scene = graded(assemble(_exposed(rng, phantom.grey), drawn, modality), MEASURES)
    urgency = URGENCIES[scene.columns["severity"]]
    return replace(scene, columns={**scene.columns, "modality": modality, "urgency": urgency})


def _count(rng: Generator, kind: str) -> int:
    if kind == GOOD:
        return 0
    if kind == "white_matter_lesion":
        return int(rng.integers(1, 7))
    return min(3, int(rng.geometric(0.7))) if kind in ("nodule", "mass", "calcification") else 1


def _body(rng: Generator, size: int, wide: float, tall: float) -> tuple[Field, Field]:
    """The body's own coordinates (u, v) at each pixel, slightly rotated, scaled and shifted; its edge is at 1."""
    x, y = grid(size)
    angle = rng.normal(0, 0.05)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    middle, scale = (size / 2 * (1 + rng.normal(0, 0.03, 2))).astype(np.float32), size / 2 * rng.uniform(0.85, 1.05)
    x, y = x - middle[0], y - middle[1]
    u, v = (x * cos + y * sin) / np.float32(scale * wide), (y * cos - x * sin) / np.float32(scale * tall)
    return np.asarray(u, np.float32), np.asarray(v, np.float32)


def _oval(u: Field, v: Field, x: float, y: float, wide: float, tall: float, soft: float = 0.08) -> Field:
    """1 inside an ellipse in the body's coordinates, 0 outside."""
    return step(-np.hypot((u - np.float32(x)) / np.float32(wide), (v - np.float32(y)) / np.float32(tall)), -1, soft)


def chest(rng: Generator, size: int) -> Phantom:
    """A frontal film: bright bones, heart and diaphragm, dark lungs."""
    u, v = _body(rng, size, 1.0, 1.05)
    uneven = np.float32(0.05) * noise(rng, size, 4)
    trunk = step(-(np.abs(u) ** 3) - np.clip(-v - 0.55, 0, 1) * np.abs(u) * 3, -0.95, 0.15)
    apart, wide, tall = rng.uniform(0.4, 0.46), rng.uniform(0.32, 0.38), rng.uniform(0.68, 0.8)
    lungs = [_oval(u + uneven, v + uneven, side * apart, -0.05, wide, tall, 0.12) for side in (-1, 1)]
    floor = rng.uniform(0.45, 0.6)
    dome = [step(v - floor + (u - side * apart) ** 2 * 0.9, 0, 0.1) for side in (-1, 1)]
    lungs = [np.asarray(lung * (1 - top), np.float32) for lung, top in zip(lungs, dome, strict=True)]
    both = np.maximum(*lungs)
    grey = trunk * np.float32(0.62) - both * np.float32(rng.uniform(0.38, 0.46))
    grey += both * np.float32(0.025) * np.abs(fractal(rng, size, 14, 3))  # vessels
    curve, first, gap = rng.uniform(0.25, 0.45), rng.uniform(-0.95, -0.85), rng.uniform(0.15, 0.19)
    ribs = np.mod((v + np.float32(curve) * (np.abs(u) - 0.45) ** 2 * 2 - first) / np.float32(gap), 1)
    grey += (
        np.exp(-(((ribs - 0.5) / 0.2) ** 2))
        * np.float32(rng.uniform(0.06, 0.12))
        * (np.abs(u) < 0.85)
        * (v < 0.75)
        * trunk
    )
    spine = np.exp(-((u / 0.09) ** 2)) * (0.16 + 0.04 * np.sin(v * 28))
    grey += spine * trunk + 0.14 * np.exp(-(((v + 0.72 + 0.3 * np.abs(u)) / 0.035) ** 2)) * (np.abs(u) < 0.75)
    heart = _oval(u, v, rng.uniform(0.08, 0.14), rng.uniform(0.22, 0.32), rng.uniform(0.26, 0.33), 0.33, 0.2)
    grey = np.maximum(grey, heart * np.float32(rng.uniform(0.58, 0.68)))
    free = np.asarray(both * (1 - heart), np.float32)
    floors = np.asarray(free * step(v, floor - 0.28, 0.1), np.float32)
    room = {"nodule": free, "opacity": free, "effusion": floors}
    return Phantom(np.asarray(grey, np.float32), u, v, room)


def abdomen(rng: Generator, size: int) -> Phantom:
    """An axial slice as in CT: fat rim, liver, stomach with air, kidneys, aorta, vertebra and ribs."""
    u, v = _body(rng, size, 1.0, rng.uniform(0.7, 0.82))
    uneven = np.float32(0.03) * noise(rng, size, 5)
    u_, v_ = u + uneven, v - uneven
    grey = _oval(u, v, 0, 0, 0.97, 0.97, 0.04) * np.float32(0.3)
    grey += _oval(u_, v_, 0, 0, 0.86, 0.84) * np.float32(0.12)
    liver = _oval(u_, v_, -0.38, -0.12, rng.uniform(0.4, 0.46), rng.uniform(0.5, 0.6))
    liver = np.asarray(np.maximum(liver, _oval(u_, v_, 0.0, -0.32, 0.35, 0.25)), np.float32)
    grey += liver * np.float32(rng.uniform(0.14, 0.2))
    stomach = _oval(u_, v_, 0.42, -0.28, 0.26, 0.3)
    grey += stomach * np.float32(0.08) - stomach * step(-v, 0.38, 0.05) * np.float32(0.5)
    kidneys = [_oval(u, v, side * 0.46, 0.4, 0.15, 0.22) for side in (-1, 1)]
    both = np.asarray(np.maximum(*kidneys), np.float32)
    grey += both * np.float32(rng.uniform(0.2, 0.3)) - 0.12 * np.maximum(
        *(_oval(u, v, side * 0.42, 0.4, 0.06, 0.1) for side in (-1, 1))
    )
    grey += _oval(u, v, 0.06, 0.28, 0.075, 0.095) * np.float32(rng.uniform(0.15, 0.35))
    bone = np.maximum(_oval(u, v, 0, 0.55, 0.15, 0.19), _oval(u, v, 0, 0.8, 0.05, 0.16))
    grey += bone * np.float32(0.42)
    turns = rng.uniform(0, 0.3) + np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for turn in turns[np.sin(turns) < 0.8]:
        grey += _oval(u, v, 0.87 * np.cos(turn), 0.86 * np.sin(turn), 0.06, 0.05) * np.float32(0.45)
    inner = step(soften(both, 1.0), 0.6, 0.2)
    room = {"mass": liver * (1 - stomach), "calcification": np.asarray(inner, np.float32)}
    return Phantom(np.asarray(grey, np.float32), u, v, room)


def head(rng: Generator, size: int) -> Phantom:
    """An axial slice as in MRI: bright scalp, dark skull, folded grey and white matter, ventricles."""
    u, v = _body(rng, size, rng.uniform(0.74, 0.82), 0.95)
    bright_fluid = rng.random() < 0.5  # T2-like, else T1-like
    scalp, skull = _oval(u, v, 0, 0, 0.98, 0.98, 0.03), _oval(u, v, 0, 0, 0.92, 0.93, 0.03)
    brain = _oval(u, v, 0, 0, 0.84, 0.86, 0.03)
    depth = np.hypot(u, v)
    folds = fractal(rng, size, rng.uniform(9, 13), 2)
    cortex = step(np.asarray(depth + 0.13 * folds, np.float32), rng.uniform(0.66, 0.74), 0.12)
    white, cover, fluid = (0.36, 0.5, 0.85) if bright_fluid else (0.62, 0.45, 0.1)
    tissue = white + (cover - white) * cortex + 0.02 * folds
    furrow = np.exp(-((fractal(rng, size, 7, 2) / 0.14) ** 2)) * step(depth, 0.6, 0.2)
    furrow = np.maximum(furrow * 0.8, np.exp(-((u / 0.018) ** 2)) * (np.abs(v) > 0.35))
    horns = [
        _oval(u + side * 0.35 * (v + 0.05), v, side * rng.uniform(0.11, 0.15), -0.05, rng.uniform(0.05, 0.1), 0.3, 0.15)
        for side in (-1, 1)
    ]
    hollow = np.maximum(np.maximum(*horns), furrow)
    tissue = tissue + (fluid - tissue) * hollow
    grey = scalp * np.float32(0.75) - skull * np.float32(0.68) + brain * (tissue - 0.07)
    room = {
        "tumour": np.asarray(brain * (1 - np.maximum(*horns)), np.float32),
        "white_matter_lesion": np.asarray(step(-depth, -0.62, 0.05) * (1 - np.maximum(*horns)), np.float32),
    }
    return Phantom(np.asarray(grey, np.float32), u, v, room)


def _site(rng: Generator, room: Field, min_radius: float, max_radius: float) -> Spot:
    """A spot inside the room, with a radius of `min_radius` to `max_radius`, as shares of the side."""
    size = len(room)
    depth = cv2.distanceTransform((room > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    rows, columns = np.nonzero(depth >= min(0.35 * float(depth.max()), 0.7 * max_radius * size))
    place = int(rng.integers(len(rows)))
    radius = max(2.2, size * float(np.exp(rng.uniform(np.log(min_radius), np.log(max_radius)))))
    return Spot.at(rng, columns[place], rows[place], radius, 0.5)


def nodule(rng: Generator, phantom: Phantom, room: Field) -> Field:
    spot = _site(rng, room, 0.022, 0.065)
    alpha = blob(rng, len(room), spot, 0.08, 0.5) * step(room, 0.3, 0.3)
    phantom.grey += alpha * np.float32(0.14 + 0.2 * spot.contrast)
    return alpha


def opacity(rng: Generator, phantom: Phantom, room: Field) -> Field:
    size = len(room)
    spot = _site(rng, room, 0.1, 0.2)
    alpha = blob(rng, size, spot, 0.3, 1.0, rng.uniform(0.8, 1.4)) * room
    cloud = np.clip(0.75 + 0.35 * fractal(rng, size, 9, 3), 0.2, 1.3)
    phantom.grey += alpha * cloud * np.float32(0.14 + 0.18 * spot.contrast)
    return np.asarray(alpha, np.float32)


def effusion(rng: Generator, phantom: Phantom, room: Field) -> Field:
    """Fluid at the bottom of one lung, with its level rising to the wall."""
    side = np.float32(rng.choice([-1, 1]))
    inside = room * (phantom.u * side > 0)
    level = np.float32(rng.uniform(0.22, 0.42)) - np.float32(0.25) * np.clip(phantom.u * side - 0.35, 0, 1)
    alpha = np.asarray(inside * step(np.asarray(phantom.v - level, np.float32), 0, 0.08), np.float32)
    phantom.grey += alpha * np.float32(rng.uniform(0.25, 0.36))
    return alpha


def mass(rng: Generator, phantom: Phantom, room: Field) -> Field:
    spot = _site(rng, room, 0.035, 0.1)
    alpha = np.asarray(blob(rng, len(room), spot, 0.12, 0.35, rng.uniform(1, 1.3)) * step(room, 0.3, 0.3), np.float32)
    phantom.grey -= alpha * np.float32(0.08 + 0.12 * spot.contrast)
    rim = alpha * (1 - alpha) * 4
    phantom.grey += rim * np.float32(rng.choice([0.0, 0.08]))
    return alpha


def calcification(rng: Generator, phantom: Phantom, room: Field) -> Field:
    spot = _site(rng, room, 0.012, 0.032)
    alpha = blob(rng, len(room), spot, 0.1, 0.3, rng.uniform(1, 1.6))
    phantom.grey += alpha * np.float32(0.3 + 0.2 * spot.contrast)
    return alpha


def tumour(rng: Generator, phantom: Phantom, room: Field) -> Field:
    """A bright rim around a darker core, in a halo of swelling; the lesion is core and rim."""
    size = len(room)
    spot = _site(rng, room, 0.06, 0.14)
    alpha = np.asarray(blob(rng, size, spot, 0.2, 0.25, rng.uniform(1, 1.3)) * step(room, 0.3, 0.3), np.float32)
    core = blob(rng, size, replace(spot, radius=spot.radius * rng.uniform(0.4, 0.7)), 0.2, 0.3)
    halo = soften(alpha, 0.03 * size) * room
    phantom.grey += halo * np.float32(rng.choice([-0.1, 0.1]))
    phantom.grey += alpha * np.float32(0.15 + 0.25 * spot.contrast) - core * alpha * np.float32(rng.uniform(0.1, 0.35))
    return alpha


def white_matter_lesion(rng: Generator, phantom: Phantom, room: Field) -> Field:
    spot = _site(rng, room, 0.014, 0.035)
    alpha = blob(rng, len(room), spot, 0.15, 0.4, rng.uniform(1, 2)) * room
    phantom.grey += alpha * np.float32(0.22 + 0.2 * spot.contrast)
    return np.asarray(alpha, np.float32)


def _exposed(rng: Generator, grey: Field) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Apply window, focus and noise; (size, size, 3) uint8 with three equal channels."""
    size = len(grey)
    if rng.random() < 0.5:
        grey = soften(grey, rng.uniform(0.3, 0.8))
    grey = grey + np.float32(rng.uniform(0.005, 0.03)) * grain(rng, size, rng.uniform(0, 0.7))
    low, high = rng.uniform(-0.05, 0.06), rng.uniform(0.85, 1.05)
    shown = np.clip((grey - low) / (high - low), 0, 1) ** rng.uniform(0.85, 1.2)
    return np.repeat((shown * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


PHANTOMS: dict[str, Callable[[Generator, int], Phantom]] = {"X-ray": chest, "CT": abdomen, "MR": head}
LESIONS = {
    "nodule": Lesion("X-ray", "lung", Measure("area", 0.004, 0.012), nodule),
    "opacity": Lesion("X-ray", "lung", Measure("area", 0.025, 0.07), opacity),
    "effusion": Lesion("X-ray", "pleura", Measure("area", 0.015, 0.035), effusion),
    "mass": Lesion("CT", "liver", Measure("area", 0.006, 0.02), mass),
    "calcification": Lesion("CT", "kidney", Measure("area", 0.0012, 0.003), calcification),
    "tumour": Lesion("MR", "brain", Measure("area", 0.01, 0.03), tumour),
    "white_matter_lesion": Lesion("MR", "brain", Measure("count", 3, 5), white_matter_lesion),
}
MEASURES = {kind: lesion.measure for kind, lesion in LESIONS.items()}
