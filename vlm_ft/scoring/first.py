"""Which photos of a folder a person should review first: uncertain ones, unlike each other and the training data.

The choice is greedy, farthest first (Gonzalez 1985), which is the k-center selection of active learning (Sener and
Savarese 2018, "Active learning for convolutional neural networks: a core-set approach"). Each distance counts by how
uncertain the answer is.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datasets_vision.placing import whole_file
from vlm_ft.answers.confidence import closed_fields, joint_probability
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.inference.familiarity import unit_vectors
from vlm_ft.scoring.ledger import Row
from vlm_ft.scoring.units import Decode, decoded_here

if TYPE_CHECKING:
    from vlm_ft.inference.engine import Engine

FIRST = "first.txt"
"""The name of the file beside a job's table."""

MAX_CHOSEN = 60
"""Photos that are chosen."""

CANDIDATES = 2000
"""The most uncertain photos, among which they are chosen."""

MIN_WEIGHT = 0.01
"""The weight of a certain answer, so that a photo unlike all others is still chosen."""

SAME = 1e-5
"""The distance below which two photos are copies; rounding alone causes up to 1e-6."""

Features = NDArray[np.float32]


def write_first(
    file: Path, engine: Engine, adapter: str, folder: Path, rows: Iterable[Row], decode: Decode = decoded_here
) -> None:
    """Write the paths of the photos to review first to a text file, the most useful one first.

    Their features are computed again, since a ledger keeps only answers; that takes a small share of the time of
    answering. Photos that have been removed since, and those whose names are not UTF-8, are left out. Raises
    `DataError` if the file cannot be written.
    """
    form = engine.cards[adapter].form
    readable = (row for row in rows if row.prediction.error is None and (folder / row.path).is_file())
    weighted = nlargest(CANDIDATES, ((uncertainty(form, row.prediction), row.path) for row in readable))
    photos = (photo for _, path in weighted for photo in decode([folder / path]))
    features, known = engine.features(adapter, photos)
    weights = np.array([weight for weight, _ in weighted])
    chosen = farthest_first(features, weights, known, MAX_CHOSEN)
    with whole_file(file) as part:
        part.write_text("".join(f"{weighted[place][1]}\n" for place in chosen), encoding="utf-8", errors="replace")


def uncertainty(form: Form, prediction: Prediction) -> float:
    """The probability that some closed field is wrong, at least `MIN_WEIGHT`; 1 if there are no probabilities."""
    sure = joint_probability(closed_fields(form), prediction)
    return 1.0 if sure is None else max(1 - sure, MIN_WEIGHT)


def farthest_first(features: Features, weights: NDArray[np.float64], known: Features, limit: int) -> list[int]:
    """The indices of at most `limit` rows of `features` (photos, channels), in the order of choice.

    Each has the greatest product of its weight and its cosine distance to the nearest of `known` (exemplars, channels;
    of length 1) and of those chosen before it. Copies of these are not chosen.
    """
    if not len(features):
        return []
    units = unit_vectors(features)
    far = 1 - (units @ known.T).max(1) if len(known) else np.ones(len(units))
    chosen: list[int] = []
    while len(chosen) < min(limit, len(units)):
        place = int(np.argmax(weights * far))
        if far[place] < SAME:
            break
        chosen.append(place)
        far = np.minimum(far, 1 - units @ units[place])
        far[place] = 0.0
    return chosen
