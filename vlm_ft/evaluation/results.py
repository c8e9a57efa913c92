"""Results as a file: commands record them in `recipes/results.json`; `quotes` writes them into pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from datasets_vision.placing import whole_file
from vlm_ft.adapters import Card
from vlm_ft.answers.calibration import RISK
from vlm_ft.answers.intervals import Figure
from vlm_ft.answers.kinds import Choice, Strict
from vlm_ft.answers.metrics import Metric
from vlm_ft.answers.verdict import verdict_fields
from vlm_ft.errors import DataError, RecipeError, nearest
from vlm_ft.evaluation.evaluate import ADAPTER, Evaluation
from vlm_ft.evaluation.reliability import OWN, Sureness
from vlm_ft.settings import fault_of

MAIN = ("macro_f1", "f1", "mae", "rouge_l", "iou")
"""The metric quoted for a field, by its kind: choice or flag, list, number, text, box."""
RECORDED = (*MAIN, "balanced_accuracy")
ANSWER = "answer"  # the field of figures that concern whole answers
MAX_FALSE_ALARMS, MIN_ALARMS = 0.05, 0.90
"""The shares of an adapter's own test set, and of another domain, that should be flagged: at most and at least."""

Entry = TypeVar("Entry", bound=BaseModel)


class Result(Strict):
    """One figure. `low` to `high`: its 95 % interval or, for a mean over folds, the lowest and the highest fold.

    The interval of a mean over seeds is over the seeds. `set`: the data. `n`: test examples. `minutes`: of training,
    per run. `rivals`: their values of the same metric. `examples`: training examples, for a point of a learning curve.
    """

    set: str
    recipe: str
    field: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    minutes: float
    rivals: dict[str, float]
    goal: float | None = None
    command: str
    examples: int | None = Field(default=None, exclude_if=lambda count: count is None)

    @classmethod
    def of(
        cls,
        card: Card,
        command: str,
        field: str,
        metric: str,
        figure: Metric | Figure,
        n: int,
        rivals: Mapping[str, float] | None = None,
        goal: float | None = None,
    ) -> Result:
        """A figure of one adapter."""
        return cls(
            set=", ".join(card.provenance.data),
            recipe=card.name,
            field=field,
            metric=metric,
            value=figure.value,
            low=figure.low,
            high=figure.high,
            n=n,
            minutes=round(card.training["seconds"] / 60, 2),
            rivals=dict(rivals or {}),
            goal=goal,
            command=command,
        )

    def another(
        self,
        field: str,
        metric: str,
        figure: Figure,
        n: int,
        rivals: Mapping[str, float] | None = None,
        goal: float | None = None,
    ) -> Result:
        """Another figure of the same training."""
        values = {"value": figure.value, "low": figure.low, "high": figure.high, "n": n, "goal": goal}
        return self.model_copy(update={"field": field, "metric": metric, "rivals": dict(rivals or {}), **values})

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """A newer figure with the same key replaces this one; of the command, only its name is part of the key."""
        return (" ".join(self.command.split()[:2]), self.recipe, self.field, self.metric, self.examples)


def results_of(
    evaluation: Evaluation, card: Card, command: str, goals: Mapping[str, float] | None = None
) -> list[Result]:
    """The main figures of every field in an adapter's evaluation, and the share of photos or texts that it flags.

    The keys of `goals` are ``field.metric``. Raises `RecipeError` for one that is not among the figures.
    """
    goals = goals or {}
    own = evaluation.systems[ADAPTER]
    main = {f"{metric.field}.{metric.name}": metric for metric in own if metric.name in RECORDED}
    if unknown := next((name for name in goals if name not in main), None):
        raise RecipeError(f"--goal {unknown}", "not among the figures", nearest(unknown, main))
    found = []
    for name, metric in main.items():
        rivals = {system: other.value for system, other in evaluation.by_system(metric).items() if system != ADAPTER}
        goal = goals.get(name)
        found.append(Result.of(card, command, metric.field, metric.name, metric, metric.count, rivals, goal))
    for alarm in evaluation.sureness.alarms:
        goal = MAX_FALSE_ALARMS if alarm.of == OWN else MIN_ALARMS
        found.append(Result.of(card, command, ANSWER, f"flagged, {alarm.of}", alarm.flagged, alarm.count, goal=goal))
    return found


def sureness_results(like: Result, sureness: Sureness, metrics: Sequence[str] = ("ece",)) -> list[Result]:
    """How reliable the adapter's probabilities are: these metrics of each field, then the shares of answers.

    `like` is another figure of the same training. Other systems and rankings are the rivals. The goal of an expected
    calibration error is the band of exact probabilities (see `Reliability`).
    """
    results = []
    for own in (entry for entry in sureness.reliability if entry.system == ADAPTER):
        others = [entry for entry in sureness.reliability if entry.field == own.field and entry.system != ADAPTER]
        for metric in metrics:
            rivals = {entry.system: getattr(entry, metric).value for entry in others}
            goal = own.band if metric == "ece" else None
            results.append(like.another(own.field, metric, getattr(own, metric), own.count, rivals, goal))
    if (unaided := sureness.unaided) is None:
        return results
    results.append(like.another(ANSWER, "answered", unaided.answered, unaided.count))
    if unaided.wrong is not None:
        results.append(like.another(ANSWER, "wrong_of_answered", unaided.wrong, unaided.judged, goal=RISK))
    at_risk = {entry.by: entry.at_risk for entry in sureness.coverage}
    if (figure := at_risk.pop(ADAPTER, None)) is not None:
        rivals = {by: other.value for by, other in at_risk.items()}
        results.append(like.another(ANSWER, "coverage_at_risk", figure, unaided.count, rivals))
    return results


def main_figure(card: Card) -> tuple[str, str, float] | None:
    """(field, metric, value): an adapter's main figure on its class, or on its first measured field.

    None if it was not evaluated.
    """
    stated = verdict_fields(card.form)
    classes = [field for field in stated if isinstance(field.kind, Choice)]
    found = (
        (field.name, metric, float(card.metrics[f"{field.name}.{metric}"]["value"]))
        for field in (*classes, *stated, *card.form.fields)
        for metric in MAIN
        if f"{field.name}.{metric}" in card.metrics
    )
    return next(found, None)


def read_entries(file: Path, kind: type[Entry]) -> list[Entry]:
    """The entries of a file; none if it does not exist. Raises `DataError` if its content is invalid."""
    try:
        return TypeAdapter(list[kind]).validate_json(file.read_bytes()) if file.exists() else []  # type: ignore[valid-type]
    except OSError as error:
        raise DataError(file, f"cannot be read ({error.strerror})", "give another file") from error
    except ValidationError as error:
        raise DataError(file, fault_of(error), "restore it, or remove it") from error


def add_entries(file: Path, kind: type[Entry], entries: Sequence[Entry], key: str) -> None:
    """Add entries to a file, each in place of an older one with the same value of the attribute `key`."""
    known = {getattr(entry, key): entry for entry in (*read_entries(file, kind), *entries)}
    content = [entry.model_dump(mode="json") for entry in known.values()]
    with whole_file(file) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_results(file: Path) -> list[Result]:
    """The results in a file. Raises `DataError` if it is missing or its content is invalid."""
    if not file.exists():
        raise DataError(file, "no such file", "vlm-ft evaluate RUN --results writes it")
    return read_entries(file, Result)


def record(results: Sequence[Result], file: Path) -> None:
    """Add the results to a file; a result without a goal keeps the goal of the older one that it replaces."""
    goals = {result.key: result.goal for result in read_entries(file, Result)}
    with_goals = [
        result if result.goal is not None else result.model_copy(update={"goal": goals.get(result.key)})
        for result in results
    ]
    add_entries(file, Result, with_goals, "key")
