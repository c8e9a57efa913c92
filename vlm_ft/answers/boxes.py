"""Overlap of boxes (left, top, right, bottom), in any unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def iou(left: Sequence[Sequence[float] | None], right: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes, (len(left), len(right)).

    0 if a box is missing or has no area.
    """
    a = np.array([box or (0, 0, 0, 0) for box in left], dtype=float)[:, None]
    b = np.array([box or (0, 0, 0, 0) for box in right], dtype=float)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.clip(sides, 0, None), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0))
