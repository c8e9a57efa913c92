"""COCO average precision for lists of boxes, ranked by the probability of each item (Lin et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.intervals import Figure
from vlm_ft.answers.kinds import Items
from vlm_ft.answers.prediction import FieldValue
from vlm_ft.answers.task import Values

NAMES = ("ap50", "ap")
GROUPS = 5
"""Number of jackknife groups; each recomputes the figure once (half a second in all for 500 lists)."""


def average_precisions(
    kind: Items, truths: Sequence[Sequence[Values]], answers: Sequence[FieldValue | None], clusters: NDArray[np.int64]
) -> dict[str, Figure]:
    """`ap50` and `ap`, the mean over IoU thresholds 0.50 to 0.95, with 95 % intervals; {} if there are no true items.

    Only listed items count, ranked by the probability that they exist and have the right name; an item without a
    probability counts as certain. The intervals come from a delete-a-group jackknife (Kott 2001); `clusters` gives the
    cluster of each example.
    """
    from scipy.stats import t

    if not any(truths):
        return {}
    texts, contents = [repr(pair) for pair in zip(truths, answers, strict=True)], dict[int, list[str]]()
    for text, cluster in zip(texts, clusters.tolist(), strict=True):
        contents.setdefault(cluster, []).append(text)
    ordered = sorted(contents, key=lambda cluster: sorted(contents[cluster]))
    ranks = {cluster: rank for rank, cluster in enumerate(ordered)}
    # Ties are broken by row order, so rows are sorted by content, whatever order they came in.
    rows = np.array(sorted(range(len(texts)), key=lambda row: (ranks[int(clusters[row])], texts[row])))
    groups = min(GROUPS, len(ranks))
    member = np.array([ranks[cluster] % groups for cluster in clusters[rows].tolist()])
    whole = _average_precision(kind, truths, answers, rows)
    if groups < 2:
        return {name: Figure(value=value, low=0.0, high=1.0) for name, value in zip(NAMES, whole, strict=True)}
    parts = np.array([_average_precision(kind, truths, answers, rows[member != group]) for group in range(groups)])
    margins = t.ppf(0.975, groups - 1) * np.sqrt((groups - 1) / groups * np.square(parts - parts.mean(0)).sum(0))
    return {
        name: Figure(value=value, low=max(0.0, value - margin), high=min(1.0, value + margin))
        for name, value, margin in zip(NAMES, whole, margins.tolist(), strict=True)
    }


def _average_precision(
    kind: Items, truths: Sequence[Sequence[Values]], answers: Sequence[FieldValue | None], rows: Iterable[int]
) -> tuple[float, float]:
    """`ap50` and `ap` of these rows; 0 if they have no true items."""
    from supervision.metrics import MeanAveragePrecision  # importing it takes 1.5 s

    names: dict[Any, int] = {}
    metric = MeanAveragePrecision()
    for row in rows:
        answer = answers[row]
        found = [] if answer is None else answer.value
        scores = [1.0] * len(found)
        if answer is not None and answer.items is not None:
            scores = [item.score(kind.name) for item in answer.items]
        metric.update(_detections(kind, found, scores, names), _detections(kind, truths[row], None, names))
    result = metric.compute()
    return max(float(result.map50), 0.0), max(float(result.map50_95), 0.0)


def _detections(kind: Items, items: Sequence[Values], scores: Sequence[float] | None, names: dict[Any, int]) -> Any:
    from supervision import Detections

    if not items:
        return Detections.empty()
    assert kind.box is not None
    return Detections(
        xyxy=np.array([item[kind.box] for item in items], dtype=float),
        class_id=np.array([names.setdefault(item.get(kind.name or ""), len(names)) for item in items]),
        confidence=None if scores is None else np.array(scores),
    )
