"""Whether answers are the same, and adapters whose answers are not.

Two answers are alike if their values are equal and their probabilities differ only by the rounding of float32 sums.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from vlm_ft.adapters import TENSORS
from vlm_ft.answers.prediction import FieldValue, Prediction


def alike(some: Sequence[Prediction], others: Sequence[Prediction]) -> bool:
    """Whether the predictions are pairwise the same, and at least one of them answers."""
    answered = any(prediction.error is None for prediction in some)
    return answered and len(some) == len(others) and all(_same(*pair) for pair in zip(some, others, strict=True))


def altered(folder: Path, to: Path) -> Path:
    """A copy of an adapter with other weights, which answers differently."""
    shutil.copytree(folder, to)
    save_file({name: -2 * tensor for name, tensor in load_file(folder / TENSORS).items()}, to / TENSORS)
    return to


def _same(one: Prediction, other: Prediction) -> bool:
    plain = [(answer.values, answer.decision, answer.error, answer.derived) for answer in (one, other)]
    return plain[0] == plain[1] and all(_as_sure(entry, other.fields[name]) for name, entry in one.fields.items())


def _as_sure(one: FieldValue, other: FieldValue) -> bool:
    found, expected = ([dict(entry.distribution or {}), entry.legal, entry.spread or ()] for entry in (one, other))
    return (
        found[0] == pytest.approx(expected[0], abs=1e-4)
        and found[1] == pytest.approx(expected[1], abs=1e-4)
        and found[2] == pytest.approx(expected[2], abs=0.5)
    )
