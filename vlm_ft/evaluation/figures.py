"""One table of many evaluated runs, as Markdown: a row a field, each system's figure beside the others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.answers.metrics import Metric
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import ADAPTER as SYSTEM
from vlm_ft.evaluation.evaluate import MAJORITY, Evaluation
from vlm_ft.inference.request import BASE

SHOWN = ("macro_f1", "f1", "mae", "rouge_l")
"""The figure that is told of each kind of field: choice and bool, list, number, text."""
HEADER = ("task", "run", "field, metric", "test", "majority", "bare base", "adapter", "minutes")


def figures(runs: Sequence[Path]) -> str:
    """The table of these run folders. Raises DataError for one that `vlm-ft evaluate` has not been at."""
    rows = [row for run in runs for row in _rows(run)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADER, ("---",) * len(HEADER), *rows))


def _rows(run: Path) -> Iterator[tuple[str, ...]]:
    file = run / "evaluation" / "evaluation.json"
    if not file.is_file():
        raise DataError(run, "no evaluation/evaluation.json in it", f"run vlm-ft evaluate {run} first")
    evaluation = Evaluation.model_validate_json(file.read_text(encoding="utf-8"))
    minutes = float(read_card(run / ADAPTER).training["seconds"]) / 60
    for metric in evaluation.systems[SYSTEM]:
        if metric.name in SHOWN:
            others = [_value(evaluation, system, metric) for system in (MAJORITY, BASE)]
            own = f"{metric.value:.3f} ({metric.low:.2f} to {metric.high:.2f})"
            told = f"{metric.field}, {metric.name}"
            yield (evaluation.form.task, run.name, told, str(metric.count), *others, own, f"{minutes:.1f}")


def _value(evaluation: Evaluation, system: str, like: Metric) -> str:
    """The same figure of another system, "-" where it has none."""
    metrics = evaluation.systems.get(system, ())
    return next((f"{m.value:.3f}" for m in metrics if (m.field, m.name) == (like.field, like.name)), "-")
