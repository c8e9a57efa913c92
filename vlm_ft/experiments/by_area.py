"""Recall of objects by their area in the photo: in large photos, small objects are missed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.intervals import Figure, share_interval
from vlm_ft.answers.kinds import Items, Strict
from vlm_ft.answers.metrics import match_items
from vlm_ft.answers.task import Values

COCO = (("small", 0.0, 32.0**2), ("medium", 32.0**2, 96.0**2), ("large", 96.0**2, float("inf")))
"""Bounds of a box's area, in pixels of the unscaled photo (COCO, Lin et al. 2014)."""

Bin = tuple[str, float, float]
Array = NDArray[np.float64]


class AreaRecall(Strict):
    """Recall of the true objects in one range of areas (pixels), with a 95 % interval over photos."""

    name: str
    low_area: float
    high_area: float | None
    objects: int
    found: int
    recall: float | None
    low: float | None
    high: float | None


def recall_by_area(
    kind: Items,
    truths: Sequence[Sequence[Values]],
    answers: Sequence[Sequence[Values] | None],
    sizes: Sequence[tuple[int, int]],
    *,
    bins: Sequence[Bin] = COCO,
    named: bool = True,
) -> tuple[AreaRecall, ...]:
    """Recall in each bin; an item is found if `match_items` pairs it (IoU >= 0.5, and the name if `named`).

    `sizes` are (width, height) of the photos in pixels; an answer of None finds nothing. A bin without objects has no
    recall. Intervals are over photos.
    """
    hits = np.zeros((len(truths), len(bins), 2))
    for place, (truth, answer, size) in enumerate(zip(truths, answers, sizes, strict=True)):
        matched = {true for true, _ in match_items(kind, truth, answer or [], named)}
        for index, item in enumerate(truth):
            if kind.box and (box := item.get(kind.box)):
                span = _bin(_area(box, size), bins)
                hits[place, span] += (index in matched, 1)
    return tuple(_row(hits[:, index], name, low, high) for index, (name, low, high) in enumerate(bins))


def quantile_bins(truths: Sequence[Sequence[Values]], sizes: Sequence[tuple[int, int]], box: str) -> tuple[Bin, ...]:
    """Four ranges of area with equal numbers of objects, for data sets whose objects all have one COCO size."""
    pairs = zip(truths, sizes, strict=True)
    areas = [_area(item[box], size) for truth, size in pairs for item in truth if item.get(box)]
    if not areas:
        return COCO
    bounds = sorted({float(bound) for bound in np.quantile(areas, (0.25, 0.5, 0.75))})
    edges = [0.0, *bounds, float("inf")]
    return tuple((f"quantile {place}", edges[place - 1], edges[place]) for place in range(1, len(edges)))


def _area(box: Sequence[float], size: tuple[int, int]) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top) / 1e6 * size[0] * size[1]


def _bin(area: float, bins: Sequence[Bin]) -> int:
    return next(place for place, (_, low, high) in enumerate(bins) if low <= area < high)


def _row(hits: Array, name: str, low: float, high: float) -> AreaRecall:
    """`hits` are (photos, 2): found, all."""
    found, objects = (int(total) for total in hits.sum(axis=0))
    recall = Figure.of(found / objects, share_interval(hits[hits[:, 1] > 0])) if objects else None
    return AreaRecall(
        name=name,
        low_area=low,
        high_area=None if high == float("inf") else high,
        objects=objects,
        found=found,
        recall=recall.value if recall else None,
        low=recall.low if recall else None,
        high=recall.high if recall else None,
    )
