"""Evaluate a reward model: how often it prefers the reply that people prefer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from vlm_ft.answers.intervals import clusters_of
from vlm_ft.errors import DataError
from vlm_ft.evaluation.reliability import Figure
from vlm_ft.evaluation.results import Result
from vlm_ft.evaluation.run import open_run
from vlm_ft.reward_model import RewardModel
from vlm_ft.runs import Run
from vlm_ft.training.methods.method import reply_rows, require_pairs

METRIC = "pair_accuracy"


def evaluate_pairs(folder: Path, *, command: str = "vlm-ft evaluate", console: Console | None = None) -> Result:
    """Score both replies of every `test` pair, and store the share of correctly ordered pairs on the card.

    A pair with equal scores counts one half. The rival prefers the longer reply. Raises `DataError` without pairs.
    """
    run = Run(folder)
    card, dataset = open_run(run)
    cases = dataset.cases["test"]
    if not cases:
        raise DataError(f"adapter {card.name}", "no test examples to evaluate on", "give the test role a share")
    require_pairs("the evaluation", cases)
    rows = [row for case in cases for row in reply_rows(card.form, case, case.example.images)]
    right = _right(RewardModel.open(run.adapter).scores(rows))
    found = Figure.share(right, clusters_of([case.group for case in cases]))
    longer = float(_right([len(row.target or "") for row in rows]).mean())
    field = ", ".join(card.form.names)
    result = Result.of(card, command, field, METRIC, found, len(cases), {"longer reply": longer})
    card.model_copy(update={"metrics": {METRIC: result.model_dump(include={"value", "low", "high", "n"})}}).write(
        run.adapter
    )
    (console or Console(stderr=True)).print(
        f"prefers the chosen reply in {found.value:.1%} of {len(cases)} pairs [{found.low:.2f}, {found.high:.2f}]; "
        f"the longer one is chosen in {longer:.1%}",
        highlight=False,
    )
    return result


def _right(scores: Sequence[float]) -> NDArray[np.float64]:
    """For each pair (chosen, rejected): 1 if the first score is higher, one half if equal, else 0, (pairs,)."""
    chosen, rejected = np.reshape(scores, (-1, 2)).T
    return np.asarray((chosen > rejected) + 0.5 * (chosen == rejected), dtype=np.float64)
