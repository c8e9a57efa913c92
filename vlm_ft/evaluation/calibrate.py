"""Calibrate an adapter on the `calibrate` role that its recipe set aside, and store the result on its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shlex import quote

import torch
from accelerate import PartialState
from rich.console import Console

from vlm_ft.adapters import FAMILIARITY, Card, read_card
from vlm_ft.answers.calibration import LEVEL, MIN_EXAMPLES, RISK
from vlm_ft.answers.confidence import Agreement, Confidence, closed_fields, joint_probability
from vlm_ft.answers.form import Form
from vlm_ft.answers.metrics import case_score
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.precision import uses_bf16
from vlm_ft.data.cases import Case, Dataset
from vlm_ft.data.subsets import spaced
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import predict_in_chunks
from vlm_ft.evaluation.out_of_fold import Answers, read_folds
from vlm_ft.evaluation.run import open_run
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.familiarity import FEWEST, Extractor, fit_familiarity
from vlm_ft.inference.request import Request
from vlm_ft.runs import Run

MAX_DESCRIBED = 1500
"""The most training examples to which the description is fitted."""

MAX_COMPARED = 100
"""The most examples that are answered in both precisions."""

ENOUGH = 100
"""With fewer calibration examples, the answers of a cross-validation are the better choice."""


def calibrate_trained(folder: Path, *, console: Console | None = None) -> None:
    """Run `calibrate_run` at the end of training, in the first process only; a `DataError` is printed, not raised."""
    if not PartialState(cpu=not torch.cuda.is_available()).is_main_process:  # as in training
        return
    if read_card(Run(folder).adapter).method == "reward":  # a reward model gives no answers
        return
    try:
        calibrate_run(folder, console=console)
    except DataError as error:
        (console or Console(stderr=True)).print(f"not calibrated: {error}", markup=False)


def calibrate_run(
    folder: Path,
    *,
    risk: float = RISK,
    level: float = LEVEL,
    thresholds: Mapping[str, float] | None = None,
    folds: Path | None = None,
    batch_size: int = 16,
    console: Console | None = None,
) -> None:
    """Fit temperatures, a threshold and a description of the training examples, and store them on the run's card.

    `thresholds` override those of the form (`Form.with_thresholds`), and are stored on the card too. With `folds`, the
    folder of a cross-validation of the same recipe, the temperatures and the threshold are fitted on its answers
    instead of the `calibrate` role; the description still needs that role. `folds` and `thresholds` cannot be combined.
    Raises `DataError` if the recipe sets no examples aside to calibrate on.

    >>> from vlm_ft import calibrate
    >>> calibrate(Path("runs/mine"), risk=0.10)
    """
    console = console or Console(stderr=True)
    run = Run(folder)
    card, dataset = open_run(run)
    cases = [case for case in dataset.cases["calibrate"] if case.values]
    alone = run.recipe.splits.folds is None  # otherwise, it is one fold of a cross-validation
    answers = None
    if folds is not None:
        if thresholds:
            remedy = "change them there, and cross-validate again"
            raise DataError(folds, "was answered with the recipe's thresholds", remedy)
        answers = Answers.pooled(read_folds(folds, run.recipe, card.form))
    elif not cases:
        remedy = "train with splits.calibrate above 0, or give the folds of a cross-validation"
        raise DataError(run.folder, "nothing is set aside to calibrate on", remedy)
    form = card.form.with_thresholds(thresholds or {})
    card = card.model_copy(update={"form": form, "confidence": None, "familiar": None, "bf16": None})
    card.write(run.adapter)  # if interrupted, the adapter must not look calibrated
    (run.adapter / FAMILIARITY).unlink(missing_ok=True)
    engine, exact = Engine.open([run.adapter], batch_size=batch_size, precision="fp32"), None
    ask = partial(_answers, engine, card.name, batch_size, console)
    card = _with_familiarity(engine, card, dataset, run, console)
    if closed_fields(form):
        if answers is None:
            answers = ask(cases)
            exact = answers.predictions
        confidence = answers.fit(form, risk=risk, level=level)
        _print(confidence, len(answers.truths), console)
        if alone and folds is None and len(cases) < ENOUGH:
            _advise_folds(run, console)
        card = card.model_copy(update={"confidence": confidence})
    if alone:
        card = card.model_copy(update={"bf16": _agreement(engine, ask, card.form, cases, exact, console)})
    card.write(run.adapter)


def _with_familiarity(engine: Engine, card: Card, dataset: Dataset, run: Run, console: Console) -> Card:
    """The card with the threshold for unfamiliar examples; the description is written next to the tensors."""
    train, held_out = ([case.example for case in dataset.cases[role]] for role in ("train", "calibrate"))
    found = fit_familiarity(Extractor(engine.base, card.limits), spaced(train, MAX_DESCRIBED), held_out, card.tiling)
    if found is None:
        console.print(
            f"examples unlike the training data will not be flagged: that needs {FEWEST} training and {FEWEST} "
            "calibration examples, all with photos or all without"
        )
        return card
    description, familiar = found
    description.write(run.adapter)
    return card.model_copy(update={"familiar": familiar})


def _agreement(
    engine: Engine,
    ask: Callable[[Sequence[Case]], Answers],
    form: Form,
    cases: Sequence[Case],
    exact: Sequence[Prediction] | None,
    console: Console,
) -> Agreement | None:
    """How well the engine's answers in both precisions agree, on at most `MAX_COMPARED` of these cases.

    `exact`: the answers to all of them in fp32, the engine's precision, if they are known. None if bf16 is not faster
    on this machine, or there are too few examples.
    """
    compared = spaced(cases, MAX_COMPARED)
    if len(compared) < MIN_EXAMPLES or not uses_bf16("auto"):
        return None
    in_fp32 = ask(compared).predictions if exact is None else spaced(exact, MAX_COMPARED)
    engine.precision = "bf16"
    agreement = agreement_of(form, in_fp32, ask(compared).predictions)
    if agreement is not None:
        console.print(f"bf16: {agreement.in_words}")
    return agreement


def agreement_of(form: Form, exact: Sequence[Prediction], fast: Sequence[Prediction]) -> Agreement | None:
    """How well answers in bf16 agree with those in fp32; None if fewer than `MIN_EXAMPLES` could be answered."""
    pairs = [pair for pair in zip(exact, fast, strict=True) if pair[0].error is None]
    if len(pairs) < MIN_EXAMPLES:
        return None
    scores = [case_score(form, one.values, other) for one, other in pairs]
    names = closed_fields(form)
    sure = [(joint_probability(names, one) or 0.0, joint_probability(names, other) or 0.0) for one, other in pairs]
    shift = sum(abs(one - other) for one, other in sure) / len(pairs)
    return Agreement(count=len(pairs), score=sum(scores) / len(pairs), shift=shift)


def _answers(engine: Engine, adapter: str, batch_size: int, console: Console, cases: Sequence[Case]) -> Answers:
    requests = [Request(case.example.images, case.example.turns, adapter=adapter) for case in cases]
    predictions = predict_in_chunks(engine, requests, batch_size, "calibrating", console)
    return Answers([case.values for case in cases], predictions, [case.group for case in cases])


def _advise_folds(run: Run, console: Console) -> None:
    place, recipe = quote(str(run.folder)), quote(str(run.recipe_file))
    console.print(
        f"few examples to calibrate on; to use all labelled ones: vlm-ft crossval {recipe} --out folds, "
        f"then vlm-ft calibrate {place} --folds folds",
        markup=False,
    )


def _print(confidence: Confidence, count: int, console: Console) -> None:
    fitted = ", ".join(f"{name} {temperature:.2f}" for name, temperature in confidence.temperatures.items())
    console.print(f"calibrated on {count} examples: temperatures {fitted or '-'}; {confidence.bound.in_words}")
    if len(confidence.bounds) > 1:
        for name, bound in confidence.bounds.items():
            console.print(f"  {name} on its own: {bound.in_words}", markup=False)
