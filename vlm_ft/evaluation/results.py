"""Results as a file: commands record them in `recipes/results.json`, and the tables of the documentation quote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from datasets_vision.placing import whole_file
from vlm_ft.adapters import Card
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.metrics import Metric
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import ADAPTER, Evaluation
from vlm_ft.evaluation.reliability import OWN, Alarm

MAIN = ("macro_f1", "f1", "mae", "rouge_l", "iou")
"""The metric that is quoted for a field, by its kind: choice or flag, list, number, text, box."""
MOST_FALSE_ALARMS, FEWEST_ALARMS = 0.05, 0.90
"""The shares of an adapter's own test set, and of another domain, that should be flagged: at most and at least."""
START, END = "<!-- results -->", "<!-- end of results -->"
HEADER = ("recipe", "field, metric", "n", "adapter", "rivals", "goal", "minutes")


class Result(Strict):
    """One figure. `low` to `high`: its 95 % interval or, for the mean score of folds, the lowest and the highest.

    `set`: the data. `n`: test examples. `minutes`: of training, per run. `rivals`: their values of the same metric.
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

    @property
    def key(self) -> tuple[str, ...]:
        """A newer figure with the same key replaces this one; only the command's name is part of it."""
        return (" ".join(self.command.split()[:2]), self.recipe, self.field, self.metric)


_FILE = TypeAdapter(list[Result])


def results_of(
    evaluation: Evaluation, card: Card, command: str, goals: Mapping[str, float] | None = None
) -> list[Result]:
    """The main figure of every field of an adapter's evaluation, and how many photos or texts it finds strange.

    The keys of `goals` are ``field.metric``.
    """
    rivals = {name: metrics for name, metrics in evaluation.systems.items() if name != ADAPTER}
    main = [
        Result(
            set=", ".join(card.provenance.data),
            recipe=card.name,
            field=metric.field,
            metric=metric.name,
            value=metric.value,
            low=metric.low,
            high=metric.high,
            n=metric.count,
            minutes=round(card.training["seconds"] / 60, 2),
            rivals={name: value for name, found in rivals.items() if (value := _same(metric, found)) is not None},
            goal=(goals or {}).get(f"{metric.field}.{metric.name}"),
            command=command,
        )
        for metric in evaluation.systems[ADAPTER]
        if metric.name in MAIN
    ]
    return main + [_flagged(alarm, card, command) for alarm in evaluation.sureness.alarms]


def _flagged(alarm: Alarm, card: Card, command: str) -> Result:
    """The share of a set that is flagged as unlike the training data: few of its own, most of another domain."""
    return Result(
        set=", ".join(card.provenance.data),
        recipe=card.name,
        field="answer",
        metric=f"flagged, {alarm.of}",
        value=alarm.flagged.value,
        low=alarm.flagged.low,
        high=alarm.flagged.high,
        n=alarm.count,
        minutes=round(card.training["seconds"] / 60, 2),
        rivals={},
        goal=MOST_FALSE_ALARMS if alarm.of == OWN else FEWEST_ALARMS,
        command=command,
    )


def _same(metric: Metric, others: Sequence[Metric]) -> float | None:
    return next((other.value for other in others if (other.field, other.name) == (metric.field, metric.name)), None)


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


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    rows = [HEADER, ("---", "---", "---:", "---", "---", "---", "---:"), *map(_row, results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _row(result: Result) -> tuple[str, ...]:
    rivals = ", ".join(f"{name} {value:.3f}" for name, value in result.rivals.items())
    goal = "" if result.goal is None else f"{result.goal:.3g}"
    figure = f"**{result.value:.3f}** ({result.low:.3f} to {result.high:.3f})"
    name = f"{result.field}, {result.metric}"
    return (result.recipe, name, str(result.n), figure, rivals, goal, f"{result.minutes:.1f}")


def quoted(page: str, results: Sequence[Result]) -> str:
    """The page with the table between its two markers. Raises `DataError` if it lacks them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise DataError("page", f"lacks the markers {START} and {END}", "add them where the table belongs")
    return f"{before}{START}\n{table(results)}\n{END}{after}"
