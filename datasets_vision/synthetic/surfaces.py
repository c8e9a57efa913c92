"""Pictures of product surfaces, good and defective: the domain of product defects."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.defects import STARTER_KINDS, Defect, Spot
from datasets_vision.synthetic.grounds import STARTER_SURFACES, Ground
from datasets_vision.synthetic.held_out import QUICKSTART_KINDS, QUICKSTART_SURFACES
from datasets_vision.synthetic.scene import Scene, assemble, photograph
from datasets_vision.synthetic.textures import Picture

World = Literal["starter", "quickstart"]

SURFACES: dict[World, dict[str, Ground]] = {"starter": STARTER_SURFACES, "quickstart": QUICKSTART_SURFACES}
KINDS: dict[World, dict[str, Defect]] = {"starter": STARTER_KINDS, "quickstart": QUICKSTART_KINDS}
GOOD_SHARE = {"starter": 0.12, "quickstart": 1 / 6}
GREY_SHARE = {"starter": 0.5, "quickstart": 0.0}
COVERED = 0.35  # alpha above which a pixel belongs to a defect


def surface_scene(rng: Generator, size: int = 192, world: World = "starter", kind: str | None = None) -> Scene:
    """One surface with nought to three defects of one kind.

    `kind` asks for a kind of the world, or "none"; without it kinds come as often as one another.
    """
    surfaces, kinds = SURFACES[world], KINDS[world]
    surface = str(rng.choice(list(surfaces)))
    picture = surfaces[surface](rng, size)
    if kind is None:
        good = rng.random() < GOOD_SHARE[world]
        kind = "none" if good else str(rng.choice(list(kinds)))
    mask = np.zeros((size, size), np.uint8)
    count = 0 if kind == "none" else min(3, int(rng.geometric(0.6)))
    for instance in range(1, count + 1):
        spot = place(rng, size, world)
        mask[mark(rng, picture, kinds[kind], spot)] = instance
    image = photograph(rng, picture, GREY_SHARE[world])
    return assemble(image, mask, [(kind, surface)] * count, surface)


def place(rng: Generator, size: int, world: World) -> Spot:
    """A spot whose centre lies well inside; a radius of 12 to 24 % of the side (8 to 45 % for the starter)."""
    smallest, widest = (0.12, 0.24) if world == "quickstart" else (0.08, 0.45)
    radius = size * np.exp(rng.uniform(np.log(smallest), np.log(widest)))
    margin = min(radius, 0.3 * size)
    x, y = rng.uniform(margin, size - margin, 2)
    contrast = rng.uniform(0.5, 1) if world == "quickstart" else rng.beta(1.6, 1.4)
    return Spot(float(x), float(y), float(radius), float(rng.uniform(0, 2 * np.pi)), float(contrast))


def mark(
    rng: Generator, picture: Picture, defect: Defect, spot: Spot
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Draw the defect; (H, W) true where it is."""
    return np.asarray(defect(rng, picture, spot) > COVERED, np.bool_)
