"""Compare an adapter with its bare base and with its rivals, on the `test` role."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from datasets_vision.example import text_of
from vlm_ft.answers.confidence import Confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.metrics import WHOLE, Metric, case_score, measure
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Case
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.evaluation.derived import incomplete, measure_derived
from vlm_ft.evaluation.reliability import Sureness, sureness_of
from vlm_ft.evaluation.rivals import MAJORITY, RIVALS, Rival
from vlm_ft.evaluation.rivals.rival_data import NothingToLearnError, RivalData
from vlm_ft.inference.request import BASE, Predictor, Request

ADAPTER = "adapter"
FLOOR = {MAJORITY: RIVALS[MAJORITY]}

Progress = Callable[[str, float, float], None]
"""Called with a system's name, the number of examples that it has answered, and the number of all examples."""


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
    progress: Progress | None = None,
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
    card = predictor.cards[adapter]
    study = _Study(card.form, test, progress)
    if ask_base:
        study.ask(BASE, predictor, Request(form=card.form, like=adapter), chunk)
    study.ask(ADAPTER, predictor, Request(adapter=adapter), chunk)
    if train:
        data = RivalData(card.form, train, tune, [case.example for case in test], tower, seconds)
        for name, rival in rivals.items():
            study.add_rival(name, rival, data)
    return Evaluation(
        adapter=adapter,
        base=card.base.name,
        form=card.form,
        notice=card.notice,
        counts={"train": len(train), "tune": len(tune), "test": len(test)},
        systems=study.figures,
        seconds=study.seconds,
        settings=study.settings,
        notes=tuple(study.notes),
        confidence=card.confidence,
        sureness=study.sureness(card.confidence),
        cases=study.rows(),
    )


def predict_in_chunks(
    predictor: Predictor, requests: Sequence[Request], chunk: int, tick: Callable[[int, int], None] | None = None
) -> list[Prediction]:
    """One prediction per request, in chunks of `chunk`; `tick(done, total)` is called after each chunk."""
    predictions: list[Prediction] = []
    for start in range(0, len(requests), chunk):
        predictions += predictor.predict(requests[start : start + chunk])
        if tick is not None:
            tick(len(predictions), len(requests))
    return predictions


class _Study:
    """The test cases, and the answers of each system so far."""

    def __init__(self, form: Form, test: Sequence[Case], progress: Progress | None) -> None:
        self.form, self.test = form, test
        self._truths = [case.values for case in test]
        self._groups = [case.group for case in test]
        self.derived_truths = [form.derive(truth) for truth in self._truths]
        self._progress = progress or (lambda system, done, total: None)
        self.figures: dict[str, tuple[Metric, ...]] = {}
        self.seconds: dict[str, float] = {}
        self.settings: dict[str, str] = {}
        self.notes = list(incomplete(form, self.derived_truths))
        self._answers: dict[str, list[Answered]] = {}

    def ask(self, system: str, predictor: Predictor, request: Request, chunk: int) -> None:
        """Ask a system about every case."""
        start, examples = time.monotonic(), [case.example for case in self.test]
        requests = [replace(request, images=example.images, turns=example.turns) for example in examples]
        predictions = predict_in_chunks(predictor, requests, chunk, partial(self._progress, system))
        self.add(system, predictions, time.monotonic() - start)

    def add(self, system: str, predictions: list[Prediction], seconds: float, form: Form | None = None) -> None:
        """Measure a system on the form that it answers; `valid` applies only to answers generated by a model."""
        form = form or self.form
        predictions = [replace(entry, derived=form.derive(entry.values)) for entry in predictions]
        metrics = measure(form, self._truths, predictions, self._groups)
        written = system in (BASE, ADAPTER)
        self.figures[system] = (
            *(metric for metric in metrics if written or metric.field != WHOLE),
            *measure_derived(form, self.derived_truths, [entry.derived for entry in predictions], self._groups),
        )
        self.seconds[system] = seconds
        scores = [case_score(form, *pair) for pair in zip(self._truths, predictions, strict=True)]
        self._answers[system] = [Answered(prediction=p, score=s) for p, s in zip(predictions, scores, strict=True)]

    def add_rival(self, name: str, rival: Rival, data: RivalData) -> None:
        """Let a rival learn and answer, if it can."""
        start = time.monotonic()
        try:
            answers = rival.answer(data)
        except NothingToLearnError as reason:
            self.notes.append(f"The rival {name} is left out: {reason}.")
            return
        if answers is not None:
            self.add(name, answers.predictions, time.monotonic() - start, answers.form)
            self.settings |= {name: answers.settings} if answers.settings else {}

    def sureness(self, confidence: Confidence | None) -> Sureness:
        """The reliability of every system's probabilities, if it gives any."""
        systems = {
            system: [entry.prediction for entry in answers]
            for system, answers in self._answers.items()
            if system != BASE
        }
        return sureness_of(self.form, self._truths, self._groups, systems, confidence, ADAPTER)

    def rows(self) -> tuple[CaseRow, ...]:
        return tuple(
            CaseRow(
                id=case.example.id,
                group=case.group,
                images=tuple(str(path) for path in case.example.images),
                text=text_of(case.example.turns),
                truth=case.values,
                answers={system: answers[index] for system, answers in self._answers.items()},
                derived=self.derived_truths[index],
            )
            for index, case in enumerate(self.test)
        )
