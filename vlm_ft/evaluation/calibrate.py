"""Fit how sure an adapter may be, on the `calibrate` role that its recipe set aside, and keep it on the card."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from rich.console import Console

from vlm_ft.adapters import Card
from vlm_ft.answers.calibration import LEVEL, RISK, calibrated
from vlm_ft.answers.confidence import Confidence, closed_fields
from vlm_ft.data.cases import Case, Dataset
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import asked
from vlm_ft.evaluation.run import open_run, shown
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.familiarity import FEWEST, Sense, learned
from vlm_ft.inference.request import Request
from vlm_ft.runs import Run

MOST = 1500
"""Training examples, at most, that are described."""


def calibrate_trained(folder: Path, *, batch_size: int = 16, console: Console | None = None) -> None:
    """As `calibrate_run`, as the end of training: where there is nothing to calibrate, it says so and goes on.

    Of several processes, the first one does it.
    """
    if not PartialState(cpu=not torch.cuda.is_available()).is_main_process:  # as training set it up
        return
    try:
        calibrate_run(folder, batch_size=batch_size, console=console)
    except DataError as error:
        (console or Console(stderr=True)).print(f"not calibrated: {error}", markup=False)


def calibrate_run(
    folder: Path,
    *,
    risk: float = RISK,
    level: float = LEVEL,
    batch_size: int = 16,
    console: Console | None = None,
) -> None:
    """Fit temperatures, a threshold and what training examples look like, and write them on the run's card.

    The last is left out for an adapter of tiles, whose photos are seen in parts. Raises `DataError` where the recipe
    sets nothing aside for it.
    """
    console = console or Console(stderr=True)
    run = Run(folder)
    card, dataset = open_run(run)
    cases = dataset.cases["calibrate"]
    if not cases:
        raise DataError(run.folder, "nothing is set aside to calibrate on", "train with splits.calibrate above 0")
    engine = Engine.open([run.adapter], batch_size=batch_size)
    engine.cards[card.name] = card.model_copy(update={"confidence": None, "familiar": None})
    if card.tiling is None:
        card = _acquainted(engine, card, dataset, run, console)
    if closed_fields(card.form):
        confidence = _fitted(engine, card, cases, risk, level, batch_size, console)
        card = card.model_copy(update={"confidence": confidence})
    card.write(run.adapter)


def _acquainted(engine: Engine, card: Card, dataset: Dataset, run: Run, console: Console) -> Card:
    """The card, with how strange an example may be; the description is written beside the tensors."""
    train, held_out = ([case.example for case in dataset.cases[role]] for role in ("train", "calibrate"))
    found = learned(Sense(engine.base, card.limits), train[:: 1 + len(train) // MOST], held_out)
    if found is None:
        console.print(f"not told what is unlike the training data: needs {FEWEST} examples of one sort to calibrate on")
        return card
    description, familiar = found
    description.write(run.adapter)
    return card.model_copy(update={"familiar": familiar})


def _fitted(
    engine: Engine,
    card: Card,
    cases: Sequence[Case],
    risk: float,
    level: float,
    batch_size: int,
    console: Console,
) -> Confidence:
    requests = [Request(case.example.images, case.example.turns, adapter=card.name) for case in cases]
    with shown(console) as progress:
        predictions = asked(engine, requests, batch_size, partial(progress, "calibrate"))
    truths, groups = [case.values for case in cases], [case.group for case in cases]
    confidence = calibrated(card.form, truths, predictions, groups, risk=risk, level=level)
    hot = ", ".join(f"{name} {temperature:.2f}" for name, temperature in confidence.temperatures.items())
    console.print(f"calibrated on {len(cases)} examples: temperatures {hot or '-'}; {confidence.bound.in_words}")
    return confidence
