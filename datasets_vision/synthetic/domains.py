"""Every domain that is drawn or written: the one list that the command line, the recipes and the tests read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from datasets_vision.synthetic import prose
from datasets_vision.synthetic.aviation_maintenance import AVIATION_DEFECTS, skin_scene
from datasets_vision.synthetic.car_damage import CAR_DAMAGE, car_scene
from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.scan_abnormalities import LESIONS, scan_scene
from datasets_vision.synthetic.scene import GOOD, Scene
from datasets_vision.synthetic.surfaces import KINDS, World, surface_scene

SceneOf = Callable[[Generator, int, World, str | None], Scene]
RowOf = Callable[[Generator, int], dict[str, Any]]


@dataclass(frozen=True)
class Pictures:
    """A domain of pictures: `scene(rng, size, world, class)`, and the classes of each world that it has."""

    scene: SceneOf
    classes: Mapping[World, Sequence[str]]


@dataclass(frozen=True)
class Texts:
    """A domain of texts: `row(rng, index)`, a JSON object whose keys are the fields of its task."""

    row: RowOf


def _one_world(scene: Callable[[Generator, int, str | None], Scene], classes: Sequence[str]) -> Pictures:
    """A domain that the embedded base never met, so that its world is "quickstart"."""
    return Pictures(lambda rng, size, world, kind: scene(rng, size, kind), {"quickstart": classes})


DOMAINS: dict[str, Pictures | Texts] = {
    "product_defects": Pictures(surface_scene, {world: [GOOD, *kinds] for world, kinds in KINDS.items()}),
    "object_identification": Pictures(object_scene, {world: [*things] for world, things in OBJECTS.items()}),
    "car_damage": _one_world(car_scene, [GOOD, *CAR_DAMAGE]),
    "aviation_maintenance": _one_world(skin_scene, [GOOD, *AVIATION_DEFECTS]),
    "scan_abnormalities": _one_world(scan_scene, [GOOD, *LESIONS]),
    "aviation_logs": Texts(prose.aviation_log),
    "customer_chatbot": Texts(prose.customer_dialogue),
    "industry_language": Texts(prose.trade_pair),
    "legal_documents": Texts(prose.contract_clause),
    "medical_conditions": Texts(prose.medical_question),
    "scientific_research": Texts(prose.research_claim),
    "technical_diagnosis": Texts(prose.fault_report),
}
"""Named after the task that learns from it; `aviation_logs` is aviation_maintenance by text."""
