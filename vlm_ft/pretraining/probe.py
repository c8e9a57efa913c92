"""What the starter knows of its own world: the class of drawings that it has not seen, among all classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.surfaces import KINDS, surface_scene
from vlm_ft.answers.form import Form
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.models.starter.architecture import SIDE
from vlm_ft.tasks import TASKS

UNSEEN = 987_654  # a seed of no training picture
Draw = Callable[..., Any]
WORLDS: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "product_defects": (surface_scene, tuple(sorted(KINDS["starter"]))),
    "object_identification": (object_scene, tuple(sorted(OBJECTS["starter"]))),
}


@dataclass(frozen=True)
class Known:
    """The share of `count` drawings whose class (one of `classes`) was told right; chance is 1 / classes."""

    task: str
    classes: int
    count: int
    accuracy: float


def probe(engine: Engine, count: int) -> list[Known]:
    """Ask the bare base for the class of `count` new drawings of each domain, every class as often."""
    found = []
    for task, (draw, names) in WORLDS.items():
        form = Form.of(TASKS[task], {"kind": names}, ["kind"])
        scenes = [
            draw(np.random.default_rng((UNSEEN, index)), SIDE, "starter", names[index % len(names)])
            for index in range(count)
        ]
        answers = engine.predict([Request((Image.fromarray(scene.image),), form=form) for scene in scenes])
        right = [answer.values.get("kind") == scene.label for answer, scene in zip(answers, scenes, strict=True)]
        found.append(Known(task, len(names), count, float(np.mean(right))))
    return found
