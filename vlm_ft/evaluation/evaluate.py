"""Compare an adapter with its bare base, the majority, and a rival classifier, on the `test` role."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag, Strict
from vlm_ft.answers.metrics import WHOLE, Metric, case_score, majority, measure
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Values
from vlm_ft.data.cases import Case
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.evaluation.derived import incomplete, measure_derived
from vlm_ft.evaluation.rival import MODEL, Flips, Labelled, train_rival
from vlm_ft.inference.request import BASE, Predictor, Request

ADAPTER, MAJORITY, RIVAL = "adapter", "majority", "rival"
SIDE = 224  # of the rival's images, in pixels, where the card states no limit

Progress = Callable[[str, float, float], None]
"""Called with a system's name, what is done and what there is: examples, or seconds of the rival's training."""


@dataclass(frozen=True, slots=True)
class RivalPlan:
    """How the rival trains: the seconds that the adapter had; `side` in pixels (None: as the card's limit)."""

    seconds: float
    side: int | None = None
    model: str = MODEL
    flips: Flips = "horizontal"
    seed: int = 0


class RivalNote(Strict):
    """What the rival was: its field, network, side in pixels, seconds of training, accuracy on tune (0..1)."""

    field: str
    model: str
    side: int
    seconds: float
    accuracy: float | None


class Answered(Strict):
    """A system's answer to one case; `score` is `case_score`, over the fields that the system answers."""

    prediction: Prediction
    score: float


class CaseRow(Strict):
    """One case and all answers to it, by system; `derived` is what follows from the truth."""

    id: str
    images: tuple[str, ...]
    text: str
    truth: dict[str, Any]
    answers: dict[str, Answered]
    derived: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Evaluation(Strict):
    """Everything that the report tells; figures by system in `systems`, seconds of answering in `seconds`."""

    adapter: str
    base: str
    form: Form
    notice: str
    counts: dict[str, int]
    systems: dict[str, tuple[Metric, ...]]
    seconds: dict[str, float]
    rival: RivalNote | None = None
    notes: tuple[str, ...] = ()
    cases: tuple[CaseRow, ...]


def evaluate(
    predictor: Predictor,
    adapter: str,
    test: Sequence[Case],
    *,
    train: Sequence[Case] = (),
    tune: Sequence[Case] = (),
    rival: RivalPlan | None = None,
    ask_base: bool = True,
    chunk: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask the adapter its whole form as it is served, and the bare base likewise, `chunk` cases at a time.

    The base gets the adapter's pixel limits, image-token limit and tiling. `train` gives the majority, and with
    `tune` the rival, which answers the form's first image-level choice (else flag) from a case's first image.
    Systems without `train` to learn from are left out. Intervals are over the groups of the examples. Raises
    `AdapterError` for an adapter that is not resident and `DataError` where `test` is empty or the rival has nothing
    to learn.
    """
    if adapter not in predictor.cards:
        raise AdapterError("", f"adapter {adapter!r} is not loaded", nearest(adapter, predictor.cards))
    if not test:
        raise DataError(f"adapter {adapter}", "no test examples to evaluate on", "give the test role a share")
    card = predictor.cards[adapter]
    study = _Study(card.form, test, seed, progress)
    if ask_base:
        study.ask(BASE, predictor, Request(form=card.form, like=adapter), chunk)
    study.ask(ADAPTER, predictor, Request(adapter=adapter), chunk)
    if train:
        values = majority(card.form, [case.values for case in train])
        study.add(MAJORITY, [_answer(values)] * len(test), 0.0)
    note = study.challenge(rival, card, train, tune) if rival is not None else None
    return Evaluation(
        adapter=adapter,
        base=card.base.name,
        form=card.form,
        notice=card.notice,
        counts={"train": len(train), "tune": len(tune), "test": len(test)},
        systems=study.figures,
        seconds=study.seconds,
        rival=note,
        notes=incomplete(card.form, study.follows),
        cases=study.rows(),
    )


def rival_field(form: Form) -> FieldSpec | None:
    """What a classifier can learn of a form: its first choice of several options, else its first flag."""
    choices = [field for field in form.fields if isinstance(field.kind, Choice) and len(field.kind.options) > 1]
    flags = [field for field in form.fields if isinstance(field.kind, Flag)]
    return next(iter([*choices, *flags]), None)


class _Study:
    """The test cases, and what each system has answered so far."""

    def __init__(self, form: Form, test: Sequence[Case], seed: int, progress: Progress | None) -> None:
        self.form, self.test, self.seed = form, test, seed
        self.follows = [form.derive(case.values) for case in test]
        self._progress = progress or (lambda system, done, total: None)
        self.figures: dict[str, tuple[Metric, ...]] = {}
        self.seconds: dict[str, float] = {}
        self._answers: dict[str, tuple[Form, list[Prediction]]] = {}

    def ask(self, system: str, predictor: Predictor, request: Request, chunk: int) -> None:
        """Ask this about every case."""
        start, predictions = time.monotonic(), list[Prediction]()
        for begin in range(0, len(self.test), chunk):
            examples = [case.example for case in self.test[begin : begin + chunk]]
            predictions += predictor.predict(
                [replace(request, images=example.images, turns=example.turns) for example in examples]
            )
            self._progress(system, len(predictions), len(self.test))
        self.add(system, predictions, time.monotonic() - start)

    def add(self, system: str, predictions: list[Prediction], seconds: float, form: Form | None = None) -> None:
        """Measure a system on the form that it answers; `valid` says something of written answers only."""
        form = form or self.form
        truths = [case.values for case in self.test]
        groups = [case.group for case in self.test]
        metrics = measure(form, truths, predictions, groups, self.seed)
        written = system in (BASE, ADAPTER)
        derived = [form.derive(prediction.values) for prediction in predictions]
        self.figures[system] = (
            *(metric for metric in metrics if written or metric.field != WHOLE),
            *measure_derived(form, self.follows, derived, groups, self.seed),
        )
        self.seconds[system] = seconds
        self._answers[system] = form, predictions

    def challenge(self, plan: RivalPlan, card: Card, train: Sequence[Case], tune: Sequence[Case]) -> RivalNote | None:
        """Train the rival and let it answer; None where the form has no field for it."""
        field = rival_field(self.form)
        if field is None:
            return None
        labelled = _labelled(train, field.name)
        if not labelled:
            raise DataError("rival", f"no training example has an image and a label {field.name!r}", "leave it out")
        side = plan.side or (round(math.sqrt(card.pixels[1])) if card.pixels else SIDE)
        trained = train_rival(
            labelled,
            _labelled(tune, field.name),
            plan.seconds,
            side,
            plan.seed,
            lambda done, total: self._progress(RIVAL, done, total),
            model=plan.model,
            flips=plan.flips,
        )
        start = time.monotonic()
        images = [case.example.images[0] for case in self.test if case.example.images]
        classes = iter(trained.predict(images))
        predictions = [
            _answer({field.name: _value(field, next(classes))})
            if case.example.images
            else Prediction.failed("no image to look at")
            for case in self.test
        ]
        self.add(RIVAL, predictions, time.monotonic() - start, self.form.narrow((field.name,)))
        return RivalNote(
            field=field.name,
            model=trained.model,
            side=trained.side,
            seconds=trained.seconds,
            accuracy=trained.accuracy,
        )

    def rows(self) -> tuple[CaseRow, ...]:
        return tuple(
            CaseRow(
                id=case.example.id,
                images=tuple(str(path) for path in case.example.images),
                text="\n".join(turn.text for turn in case.example.turns),
                truth=case.values,
                answers={
                    system: _answered(form, case.values, predictions[index])
                    for system, (form, predictions) in self._answers.items()
                },
                derived=self.follows[index],
            )
            for index, case in enumerate(self.test)
        )


def _answer(values: Values) -> Prediction:
    return Prediction(fields={name: FieldValue(value) for name, value in values.items()})


def _answered(form: Form, truth: Values, prediction: Prediction) -> Answered:
    derived = replace(prediction, derived=form.derive(prediction.values))
    return Answered(prediction=derived, score=case_score(form, truth, prediction))


def _labelled(cases: Sequence[Case], name: str) -> list[Labelled]:
    """First image and class; a flag's class is "True" or "False"."""
    return [
        (case.example.images[0], str(case.values[name]))
        for case in cases
        if case.example.images and name in case.values
    ]


def _value(field: FieldSpec, label: str) -> Any:
    return label == str(True) if isinstance(field.kind, Flag) else label
