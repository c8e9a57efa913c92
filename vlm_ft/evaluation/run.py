"""Evaluate a run folder: the adapter in it, on the `test` role that its recipe set aside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from datasets_vision.augment import flips_of
from vlm_ft.adapters import Card, read_card
from vlm_ft.data.cases import Dataset, load
from vlm_ft.errors import AdapterError
from vlm_ft.evaluation import report
from vlm_ft.evaluation.evaluate import ADAPTER as SYSTEM
from vlm_ft.evaluation.evaluate import Evaluation, RivalPlan, evaluate, rival_field
from vlm_ft.inference.engine import Engine
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run

LARGEST_SIDE = 448  # pixels: a convnet from scratch gains nothing from more


def evaluate_run(
    folder: Path,
    *,
    rival: bool = True,
    base: bool = True,
    batch_size: int = 16,
    console: Console | None = None,
) -> Evaluation:
    """Compare the systems on `test`, write the report into its folder, put the figures on the card.

    Raises `AdapterError` where the folder holds no finished run.
    """
    console = console or Console(stderr=True)
    run = Run(folder)
    recipe, card, dataset = open_run(run)
    engine = Engine.open([run.adapter], batch_size=batch_size)
    with _shown(console) as progress:
        evaluation = evaluate(
            engine,
            card.name,
            dataset.cases["test"],
            train=dataset.cases["train"],
            tune=dataset.cases["tune"],
            rival=_rival(recipe, card, dataset, engine) if rival else None,
            ask_base=base,
            chunk=batch_size,
            progress=progress,
        )
    report.write(evaluation, run.evaluation)
    figures = {
        f"{metric.field or 'answer'}.{metric.name}": metric.model_dump() for metric in evaluation.systems[SYSTEM]
    }
    card.model_copy(update={"metrics": figures}).write(run.adapter)
    console.print(summary(evaluation))
    console.print(f"{run.evaluation / 'evaluation.html'}: pictures of the best, worst and wrong cases")
    return evaluation


def open_run(run: Run) -> tuple[Recipe, Card, Dataset]:
    """The recipe, the card and the data of a finished run, in the roles that it trained with."""
    if run.state == "empty":
        raise AdapterError(run.folder, f"not a run of vlm-ft train (no {run.recipe_file.name})", "give a run folder")
    recipe, card = run.recipe, read_card(run.adapter)
    dataset = load(recipe, run.splits)
    if dataset.form.fingerprint != card.form.fingerprint:
        problem = f"its data now fill form {dataset.form.fingerprint}, the adapter answers {card.form.fingerprint}"
        raise AdapterError(run.folder, problem, "restore the data, or train again")
    return recipe, card, dataset


def _rival(recipe: Recipe, card: Card, dataset: Dataset, engine: Engine) -> RivalPlan | None:
    """The rival, with what the adapter had; None where it has nothing to learn."""
    if rival_field(dataset.form) is None or not any(case.example.images for case in dataset.cases["train"]):
        return None
    return RivalPlan(
        seconds=float(card.training["seconds"]),
        side=_side(engine.base.reader.processor),
        flips=flips_of(recipe.augment),
        seed=recipe.training.seed,
    )


def summary(evaluation: Evaluation) -> Table:
    """The figures as a terminal table: a row a metric, a column a system; the adapter's with 95 % intervals."""
    table = Table("field", "metric", "n", *evaluation.systems, caption=evaluation.notice or None)
    for metric in evaluation.systems[SYSTEM]:
        cells = []
        for metrics in evaluation.systems.values():
            found = next((m for m in metrics if (m.field, m.name) == (metric.field, metric.name)), None)
            interval = f" [{metric.low:.2f}, {metric.high:.2f}]" if found is metric else ""
            cells.append(f"{found.value:.3f}{interval}" if found else "-")
        table.add_row(metric.field, metric.name, str(metric.count), *cells)
    return table


def _side(processor: Any) -> int:
    """The side in pixels of the images that the adapter sees, as the rival gets them."""
    size = getattr(getattr(processor, "image_processor", None), "size", None) or {}
    area = size.get("longest_edge") or size.get("height", 224) * size.get("width", 224)
    return min(LARGEST_SIDE, round(math.sqrt(area)))


@contextmanager
def _shown(console: Console) -> Iterator[Any]:
    """A bar a system."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(system: str, done: float, total: float) -> None:
            if system not in tasks:
                tasks[system] = bar.add_task(f"asking {system}", total=total)
            bar.update(tasks[system], completed=done, total=total)

        yield show
