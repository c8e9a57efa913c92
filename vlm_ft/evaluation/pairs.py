"""Evaluate a reward model, or an adapter after DPO: how often it prefers the reply that people prefer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from datasets_vision.example import text_of
from vlm_ft.adapters import Card, adapter_folder, read_card
from vlm_ft.answers.intervals import Figure, clusters_of
from vlm_ft.bases.load import Base
from vlm_ft.card_base import base_of, require_base, with_adapter
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import DataError
from vlm_ft.evaluation.results import Result
from vlm_ft.evaluation.run import open_run
from vlm_ft.likelihood import log_likelihoods, scores_of
from vlm_ft.reward_model import RewardModel
from vlm_ft.runs import Run
from vlm_ft.training.methods.method import reply_rows, require_pairs

METRIC = "pair_accuracy"


def evaluate_pairs(folder: Path, *, command: str = "vlm-ft evaluate", console: Console | None = None) -> Result:
    """Score both replies of every `test` pair, and store the share of correctly ordered pairs on the card.

    A pair with equal scores counts one half. The rivals prefer the longer reply, and the one with the larger share of
    words that are in the prompt. The score of an adapter other than a reward model is its implicit reward: how much
    more likely the reply is than it was when training began (Rafailov et al. 2023, eq. 5). Raises `DataError` without
    pairs.
    """
    run = Run(folder)
    card, dataset = open_run(run)
    cases = [case for case in dataset.cases["test"] if case.replies]
    if not cases:
        raise DataError(f"adapter {card.name}", "no test pairs to evaluate on", "give the test role a share of pairs")
    require_pairs("the evaluation", cases)
    rows = [row for case in cases for row in reply_rows(card.form, case, case.example.images)]
    right = _right(_scores(run, card, rows))
    found = Figure.share(right, clusters_of([case.group for case in cases]))
    rivals = {name: float(_right([rule(row) for row in rows]).mean()) for name, rule in RULES.items()}
    field = ", ".join(card.form.names)
    result = Result.of(card, command, field, METRIC, found, len(cases), rivals)
    figure = result.model_dump(include={"value", "low", "high", "n"})
    card.model_copy(update={"metrics": {**card.metrics, METRIC: figure}}).write(run.adapter)
    (console or Console(stderr=True)).print(
        f"prefers the chosen reply in {found.value:.1%} of {len(cases)} pairs [{found.low:.2f}, {found.high:.2f}]; "
        + ", ".join(f"{name} {value:.1%}" for name, value in rivals.items()),
        highlight=False,
    )
    return result


def _length(row: Row) -> float:
    return len(row.target or "")


def _overlap(row: Row) -> float:
    """The share of the reply's words that are in the prompt."""
    replied = _words(" ".join(map(str, row.form.parse(row.target or "").values())))
    return len(replied & _words(text_of(row.turns))) / max(len(replied), 1)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


RULES = {"longer reply": _length, "word overlap": _overlap}
"""Rivals: rules that score a reply without a model."""


def _scores(run: Run, card: Card, rows: Sequence[Row]) -> Sequence[float]:
    """The scores of rows with targets."""
    if card.method == "reward":
        return RewardModel.open(run.adapter).scores(rows)
    now = _likelihoods(_trained(card, run.adapter), card, rows)
    before = _likelihoods(_start(run, card), card, rows)
    return [after - start for after, start in zip(now, before, strict=True)]


def _start(run: Run, card: Card) -> Base:
    """The model that a run's training started from."""
    if (start := run.recipe.from_adapter) is None:
        return base_of(card, run.adapter, card.base.name)
    folder = adapter_folder(start)
    return _trained(read_card(folder), folder)


def _trained(card: Card, folder: Path) -> Base:
    """The base with the adapter in a folder, or the whole model in it."""
    base = base_of(card, folder)
    require_base(card, folder, base)
    return base if card.weights else replace(base, model=with_adapter(base.model, folder))


def _likelihoods(base: Base, card: Card, rows: Sequence[Row]) -> list[float]:
    """The log-likelihoods of rows with targets, encoded as in the training that the card describes."""
    conversation = Conversation(base.reader.limited(card.limits), card.loss_on)
    return scores_of(conversation, rows, base.device, partial(log_likelihoods, base.model.eval()))


def _right(scores: Sequence[float]) -> NDArray[np.float64]:
    """For each pair (chosen, rejected): 1 if the first score is higher, one half if equal, else 0, (pairs,)."""
    chosen, rejected = np.reshape(scores, (-1, 2)).T
    return np.asarray((chosen > rejected) + 0.5 * (chosen == rejected), dtype=np.float64)
