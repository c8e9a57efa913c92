"""All synthetic domains, of pictures and of texts: the one list for the command line, the recipes and the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic import prose
from datasets_vision.synthetic.aviation_maintenance import AVIATION_DEFECTS, skin_scene
from datasets_vision.synthetic.car_damage import CAR_DAMAGE, car_scene
from datasets_vision.synthetic.object_identification import object_scene
from datasets_vision.synthetic.product_defects import DEFECTS, surface_scene
from datasets_vision.synthetic.scan_abnormalities import LESIONS, scan_scene
from datasets_vision.synthetic.scene import GOOD, Scene
from datasets_vision.synthetic.shapes import OBJECTS

SIDE = 192
"""The default side of a picture, in pixels."""


@dataclass(frozen=True)
class Pictures:
    """A domain of pictures: `scene(rng, size, class)`, and its classes."""

    scene: Callable[[Generator, int, str], Scene]
    classes: Sequence[str]

    def scenes(self, count: int, seed: int, size: int = SIDE) -> Iterator[Scene]:
        """`count` scenes with every class equally often; scene i depends only on the seed and i."""
        for index in range(count):
            yield self.scene(np.random.default_rng((seed, index)), size, self.classes[index % len(self.classes)])


@dataclass(frozen=True)
class Texts:
    """A domain of texts: `row(rng, index)`, a JSON object whose keys are the fields of its task."""

    row: Callable[[Generator, int], dict[str, Any]]

    def rows(self, count: int, seed: int) -> Iterator[dict[str, Any]]:
        """`count` rows; row i depends only on the seed and i."""
        return (self.row(np.random.default_rng((seed, index)), index) for index in range(count))


DOMAINS: dict[str, Pictures | Texts] = {
    "product_defects": Pictures(surface_scene, [GOOD, *DEFECTS]),
    "object_identification": Pictures(object_scene, [*OBJECTS]),
    "car_damage": Pictures(car_scene, [GOOD, *CAR_DAMAGE]),
    "aviation_maintenance": Pictures(skin_scene, [GOOD, *AVIATION_DEFECTS]),
    "scan_abnormalities": Pictures(scan_scene, [GOOD, *LESIONS]),
    "aviation_logs": Texts(prose.aviation_log),
    "customer_chatbot": Texts(prose.customer_dialogue),
    "industry_language": Texts(prose.trade_pair),
    "legal_documents": Texts(prose.contract_clause),
    "medical_conditions": Texts(prose.medical_question),
    "scientific_research": Texts(prose.research_claim),
    "technical_diagnosis": Texts(prose.fault_report),
}
"""Each is named after the task that trains on it; `aviation_logs` is aviation_maintenance as text."""
