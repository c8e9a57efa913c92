"""Compare an adapter with its bare base and with its rivals, on the `test` role."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from rich.console import Console
from rich.progress import track

from datasets_vision.example import text_of
from vlm_ft.answers.confidence import Confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.metrics import WHOLE, Metric, case_score, measure
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Case
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.evaluation.derived import Derived, incomplete, measure_derived
from vlm_ft.evaluation.reliability import Sureness, sureness_of
from vlm_ft.evaluation.rivals import MAJORITY, RIVALS, Rival
from vlm_ft.evaluation.rivals.rival_data import Attempt, NothingToLearnError, RivalData
from vlm_ft.inference.request import BASE, Predictor, Request

ADAPTER = "adapter"
FLOOR = {MAJORITY: RIVALS[MAJORITY]}


class Answered(Strict):
    """A system's answer to one case; `score` is its `case_score` over the fields that the system answers."""

    prediction: Prediction
    score: float


class CaseRow(Strict):
    """One case and all answers to it, by system; `derived` is computed from the truth."""

    id: str
    group: str = ""
    images: tuple[str, ...]
    text: str
    truth: dict[str, Any]
    answers: dict[str, Answered]
    derived: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Evaluation(Strict):
    """Everything that the report shows; `systems` has the metrics, and `seconds` the answering time, by system."""

    adapter: str
    base: str
    form: Form
    notice: str
    counts: dict[str, int]
    systems: dict[str, tuple[Metric, ...]]
    seconds: dict[str, float]
    settings: dict[str, str] = Field(default_factory=dict, description="how each rival was fitted")
    notes: tuple[str, ...] = ()
    confidence: Confidence | None = None
    sureness: Sureness
    cases: tuple[CaseRow, ...]

    def by_system(self, metric: Metric) -> dict[str, Metric]:
        """The figure of the same field and name for every system that has one."""
        return {
            system: other
            for system, metrics in self.systems.items()
            for other in metrics
            if (other.field, other.name) == (metric.field, metric.name)
        }


def read_evaluation(file: Path) -> Evaluation:
    """The evaluation in a file. Raises `DataError` if it cannot be read."""
    try:
        return Evaluation.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(file, "cannot be read as an evaluation", "delete it to evaluate the run again") from error


def evaluate(
    predictor: Predictor,
    adapter: str,
    test: Sequence[Case],
    *,
    train: Sequence[Case] = (),
    tune: Sequence[Case] = (),
    rivals: Mapping[str, Rival] = FLOOR,
    tower: Tower | None = None,
    seconds: float = 60.0,
    ask_base: bool = True,
    chunk: int = 16,
    console: Console | None = None,
) -> Evaluation:
    """Ask the adapter and the bare base for the adapter's whole form, as in serving, `chunk` cases at a time.

    The base gets the adapter's pixel limits, image-token limit and tiling. The rivals learn from `train`, make their
    choices on `tune`, and train for at most `seconds` each; a rival with nothing to learn or to answer is left out, and
    without `train` all of them are. `tower` gives them the base's features. Intervals are over the groups of the
    examples. Raises `AdapterError` for an adapter that is not loaded, and `DataError` if `test` is empty.
    """
    if adapter not in predictor.cards:
        raise AdapterError("", f"adapter {adapter!r} is not loaded", nearest(adapter, predictor.cards))
    test, train, tune = ([case for case in cases if case.values] for cases in (test, train, tune))
    if not test:
        raise DataError(f"adapter {adapter}", "no test examples to evaluate on", "give the test role a share")
    card, truths, groups = predictor.cards[adapter], [case.values for case in test], [case.group for case in test]

    def ask(system: str, request: Request) -> Attempt:
        requests = [replace(request, images=case.example.images, turns=case.example.turns) for case in test]
        return Attempt(card.form, predict_in_chunks(predictor, requests, chunk, f"asking {system}", console))

    systems: dict[str, Callable[[], Attempt | None]] = {}
    if ask_base:
        systems[BASE] = partial(ask, BASE, Request(form=card.form, like=adapter))
    systems[ADAPTER] = partial(ask, ADAPTER, Request(adapter=adapter))
    if train:
        data = RivalData(card.form, train, tune, [case.example for case in test], tower, seconds)
        systems |= {name: partial(rival.answer, data) for name, rival in rivals.items()}
    answers, took, left_out = _answered(systems)
    derived = [card.form.derive(truth) for truth in truths]
    sure = {system: found.predictions for system, found in answers.items() if system != BASE}
    return Evaluation(
        adapter=adapter,
        base=card.base.name,
        form=card.form,
        notice=card.notice,
        counts={"train": len(train), "tune": len(tune), "test": len(test)},
        systems={system: _figures(system, found, truths, derived, groups) for system, found in answers.items()},
        seconds=took,
        settings={system: found.settings for system, found in answers.items() if found.settings},
        notes=(*incomplete(card.form, derived), *left_out),
        confidence=card.confidence,
        sureness=sureness_of(card.form, truths, groups, sure, card.confidence, ADAPTER),
        cases=tuple(_row(index, case, derived[index], answers) for index, case in enumerate(test)),
    )


def predict_in_chunks(
    predictor: Predictor, requests: Sequence[Request], chunk: int, doing: str = "", console: Console | None = None
) -> list[Prediction]:
    """One prediction per request, in chunks of `chunk`; a terminal shows the progress of what it is `doing`."""
    hidden = console is None or not console.is_terminal
    starts = track(range(0, len(requests), chunk), doing, console=console, disable=hidden)
    return [prediction for start in starts for prediction in predictor.predict(requests[start : start + chunk])]


def _answered(
    systems: Mapping[str, Callable[[], Attempt | None]],
) -> tuple[dict[str, Attempt], dict[str, float], list[str]]:
    """The answers of each system that can answer, its seconds, and why others were left out."""
    answers, seconds, left_out = dict[str, Attempt](), dict[str, float](), list[str]()
    for system, answer in systems.items():
        start = time.monotonic()
        try:
            found = answer()
        except NothingToLearnError as reason:
            left_out.append(f"The rival {system} is left out: {reason}.")
            continue
        if found is not None:
            seconds[system] = time.monotonic() - start
            derived = [replace(entry, derived=found.form.derive(entry.values)) for entry in found.predictions]
            answers[system] = replace(found, predictions=derived)
    return answers, seconds, left_out


def _figures(
    system: str, found: Attempt, truths: Sequence[Values], derived: Sequence[Derived], groups: Sequence[str]
) -> tuple[Metric, ...]:
    """A system's figures on the form that it answers; `valid` applies only to answers generated by a model."""
    metrics = measure(found.form, truths, found.predictions, groups)
    written = system in (BASE, ADAPTER)
    return (
        *(metric for metric in metrics if written or metric.field != WHOLE),
        *measure_derived(found.form, derived, [entry.derived for entry in found.predictions], groups),
    )


def _row(index: int, case: Case, derived: dict[str, Values], answers: Mapping[str, Attempt]) -> CaseRow:
    given = {system: (found.form, found.predictions[index]) for system, found in answers.items()}
    return CaseRow(
        id=case.example.id,
        group=case.group,
        images=tuple(str(path) for path in case.example.images),
        text=text_of(case.example.turns),
        truth=case.values,
        answers={
            system: Answered(prediction=prediction, score=case_score(form, case.values, prediction))
            for system, (form, prediction) in given.items()
        },
        derived=derived,
    )
