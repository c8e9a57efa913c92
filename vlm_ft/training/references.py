"""Log-likelihoods under the model at the start of a run, computed once for methods that compare with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from vlm_ft.bases.modes import evaluating
from vlm_ft.bases.precision import Precision, autocast
from vlm_ft.conversation import moved
from vlm_ft.likelihood import log_likelihoods
from vlm_ft.runs import store, stored
from vlm_ft.training.collate import Collator


def set_references(
    model: Any, collators: Sequence[Collator], batch_size: int, precision: Precision, file: Path
) -> None:
    """Give each collator the log-likelihoods of its rows.

    They are read from `file` if it exists, as in a resumed run; otherwise each process computes its share, and the
    first one stores them.
    """
    process = PartialState()
    if not file.exists():
        found = [_likelihoods(model, collator, batch_size, precision) for collator in collators]
        if process.is_main_process:
            store(file, found)
    process.wait_for_everyone()
    for collator, references in zip(collators, stored(file, list[list[list[float]]]), strict=True):
        collator.references = references


def _likelihoods(model: Any, collator: Collator, batch_size: int, precision: Precision) -> list[list[float]]:
    """For each case of the collator, one value per row."""
    device = next(model.parameters()).device
    found: list[list[float]] = []
    with evaluating(model), PartialState().split_between_processes(list(range(len(collator.cases)))) as own:
        for start in range(0, len(own), batch_size):
            indices = own[start : start + batch_size]
            batch = moved(collator(indices), device)
            with autocast(device, precision):
                values = iter(log_likelihoods(model, batch).tolist())
            found += [[next(values) for _ in collator.rows(index)] for index in indices]
    everything: list[list[float]] = gather_object(found)
    return everything
