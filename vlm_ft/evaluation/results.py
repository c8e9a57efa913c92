"""Results as a file: commands record them in `recipes/results.json`; `quotes` writes them into pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from datasets_vision.placing import whole_file
from vlm_ft.adapters import Card
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.metrics import Metric
from vlm_ft.errors import DataError, RecipeError, nearest
from vlm_ft.evaluation.evaluate import ADAPTER, Evaluation
from vlm_ft.evaluation.reliability import OWN, Figure

MAIN = ("macro_f1", "f1", "mae", "rouge_l", "iou")
"""The metric that is quoted for a field, by its kind: choice or flag, list, number, text, box."""
MAX_FALSE_ALARMS, MIN_ALARMS = 0.05, 0.90
"""The shares of an adapter's own test set, and of another domain, that should be flagged: at most and at least."""


class Result(Strict):
    """One figure. `low` to `high`: its 95 % interval or, for the mean score of folds, the lowest and the highest.

    `set`: the data. `n`: test examples. `minutes`: of training, per run. `rivals`: their values of the same metric.
    `examples`: training examples, for a point of a learning curve.
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

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """A newer figure with the same key replaces this one; only the command's name is part of it."""
        return (" ".join(self.command.split()[:2]), self.recipe, self.field, self.metric, self.examples)


_FILE = TypeAdapter(list[Result])


def results_of(
    evaluation: Evaluation, card: Card, command: str, goals: Mapping[str, float] | None = None
) -> list[Result]:
    """The main figure of every field of an adapter's evaluation, and how many photos or texts it finds strange.

    The keys of `goals` are ``field.metric``. Raises `RecipeError` for one that is not among the figures.
    """
    goals = goals or {}
    main = {f"{metric.field}.{metric.name}": metric for metric in evaluation.systems[ADAPTER] if metric.name in MAIN}
    if unknown := next((name for name in goals if name not in main), None):
        raise RecipeError(f"--goal {unknown}", "not among the figures", nearest(unknown, main))
    found = []
    for name, metric in main.items():
        rivals = {system: other.value for system, other in evaluation.by_system(metric).items() if system != ADAPTER}
        goal = goals.get(name)
        found.append(Result.of(card, command, metric.field, metric.name, metric, metric.count, rivals, goal))
    for alarm in evaluation.sureness.alarms:
        goal = MAX_FALSE_ALARMS if alarm.of == OWN else MIN_ALARMS
        found.append(Result.of(card, command, "answer", f"flagged, {alarm.of}", alarm.flagged, alarm.count, goal=goal))
    return found


def read_results(file: Path) -> list[Result]:
    """The entries of a file. Raises `DataError` if it is missing or its content is invalid."""
    try:
        return _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(
            file, f"cannot be read ({error.strerror})", "vlm-ft evaluate RUN --results writes it"
        ) from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise DataError(file, f"{place}: {fault['msg']}", "restore it, or remove it") from error


def record(results: Sequence[Result], file: Path) -> None:
    """Add the results; each replaces an older one with the same key, and keeps that one's goal if it has none."""
    entries = {result.key: result for result in (read_results(file) if file.exists() else [])}
    for result in results:
        older = entries.get(result.key)
        goal = older.goal if older is not None and result.goal is None else result.goal
        entries[result.key] = result.model_copy(update={"goal": goal})
    with whole_file(file) as part:
        part.write_bytes(_FILE.dump_json(list(entries.values()), indent=1) + b"\n")
