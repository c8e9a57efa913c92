"""Fit how sure an adapter may be, on the `calibrate` role that its recipe set aside, and keep it on the card."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from vlm_ft.answers.calibration import LEVEL, RISK, calibrated
from vlm_ft.answers.confidence import Confidence, closed_fields
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import DataError
from vlm_ft.evaluation.run import open_run, shown
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.runs import Run


def calibrate_trained(folder: Path, *, batch_size: int = 16, console: Console | None = None) -> None:
    """As `calibrate_run`, as the end of training: where there is nothing to calibrate, it says so and goes on."""
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
) -> Confidence:
    """Answer the `calibrate` examples, fit temperatures and a threshold, and write them on the run's card.

    Raises `DataError` where the form has no closed field, or the recipe sets nothing aside for it.
    """
    console = console or Console(stderr=True)
    run = Run(folder)
    card, dataset = open_run(run)
    cases = dataset.cases["calibrate"]
    if not closed_fields(card.form):
        raise DataError(run.folder, "its form has no closed field", "a free text has no probability to calibrate")
    if not cases:
        raise DataError(run.folder, "nothing is set aside to calibrate on", "train with splits.calibrate above 0")
    engine = Engine.open([run.adapter], batch_size=batch_size)
    engine.cards[card.name] = card.model_copy(update={"confidence": None})
    predictions: list[Prediction] = []
    with shown(console) as progress:
        for begin in range(0, len(cases), batch_size):
            examples = [case.example for case in cases[begin : begin + batch_size]]
            predictions += engine.predict(
                [Request(example.images, example.turns, adapter=card.name) for example in examples]
            )
            progress("calibrate", len(predictions), len(cases))
    truths, groups = [case.values for case in cases], [case.group for case in cases]
    confidence = calibrated(card.form, truths, predictions, groups, risk=risk, level=level)
    card.model_copy(update={"confidence": confidence}).write(run.adapter)
    hot = ", ".join(f"{name} {temperature:.2f}" for name, temperature in confidence.temperatures.items())
    console.print(f"calibrated on {len(cases)} examples: temperatures {hot or '-'}; {confidence.bound.in_words}")
    return confidence
