"""Evaluate a run folder: the adapter in it, on the `test` role that its recipe set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from datasets_vision.example import Example
from datasets_vision.images import find_images
from datasets_vision.source import Source, stream
from vlm_ft.adapters import Card, read_card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Dataset, load
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.evaluation import report
from vlm_ft.evaluation.evaluate import ADAPTER, FLOOR, Evaluation, evaluate, predict_in_chunks
from vlm_ft.evaluation.reliability import alarm
from vlm_ft.evaluation.rivals import RIVALS
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.runs import Run

MAX_FOREIGN = 200


def evaluate_run(
    folder: Path,
    *,
    rivals: bool = True,
    base: bool = True,
    foreign: Sequence[Path] = (),
    text: str | None = None,
    batch_size: int = 16,
    console: Console | None = None,
) -> Evaluation:
    """Compare the systems on `test`, write the report into the run's folder, and store the metrics on the card.

    `foreign`: folders of photos from other domains or, with `text`, tables of texts, nearly all of which the adapter
    should flag; `text` is the template of each row's text, such as "{message}". Raises `AdapterError` if the folder
    contains no finished run.

    >>> from vlm_ft import evaluate
    >>> evaluation = evaluate(Path("runs/mine"), rivals=False, base=False)
    >>> sorted({metric.field for metric in evaluation.systems["adapter"]})
    ['', 'kind', 'passed']
    """
    console = console or Console(stderr=True)
    run = Run(folder)
    card, dataset = open_run(run)
    strange = [(place.name, _photos_in(place) if text is None else _texts_in(place, text)) for place in foreign]
    engine = Engine.open([run.adapter], batch_size=batch_size)
    evaluation = evaluate(
        engine,
        card.name,
        dataset.cases["test"],
        train=dataset.cases["train"],
        tune=dataset.cases["tune"],
        rivals=RIVALS if rivals else FLOOR,
        tower=Tower(engine.base, card.limits) if rivals and engine.base.reader.sees else None,
        seconds=float(card.training["seconds"]),
        ask_base=base and not card.weights,  # a whole model has no bare base in memory
        chunk=batch_size,
        console=console,
    )
    for name, requests in strange:
        own = [replace(request, adapter=card.name) for request in requests]
        evaluation = _with_alarm(evaluation, name, predict_in_chunks(engine, own, batch_size))
    figures = {
        f"{metric.field or 'answer'}.{metric.name}": metric.model_dump() for metric in evaluation.systems[ADAPTER]
    }
    card.model_copy(update={"metrics": figures}).write(run.adapter)
    report.write(evaluation, run.evaluation)
    console.print(summary(evaluation))
    if evaluation.sureness.unaided is not None:
        console.print(report.without_a_person(evaluation.sureness.unaided), markup=False, highlight=False)
    for note in evaluation.notes:
        console.print(f"  note: {note}", markup=False)
    console.print(f"{run.evaluation / 'evaluation.html'}: the report, with its best and worst cases", markup=False)
    return evaluation


def _with_alarm(evaluation: Evaluation, name: str, predictions: Sequence[Prediction]) -> Evaluation:
    """The evaluation with the share of these predictions that is flagged, or with a note on why it is unknown."""
    found = alarm(name, predictions, np.arange(len(predictions)))
    if found is None:
        reason = predictions[0].error or "the adapter does not measure familiarity; run vlm-ft calibrate"
        return evaluation.model_copy(update={"notes": (*evaluation.notes, f"{name}: not measured: {reason}")})
    sureness = evaluation.sureness
    sureness = sureness.model_copy(update={"alarms": (*sureness.alarms, found)})
    return evaluation.model_copy(update={"sureness": sureness})


def _photos_in(folder: Path) -> list[Request]:
    """Requests for the first `MAX_FOREIGN` photos below a folder. Raises `DataError` if there are none."""
    if photos := list(islice(find_images(folder), MAX_FOREIGN)):
        return [Request(images=(photo,)) for photo in photos]
    raise DataError(folder, "contains no images", "give a folder of photos from another domain, or a table with --text")


def _texts_in(place: Path, template: str) -> list[Request]:
    """Requests for the first `MAX_FOREIGN` texts of a table, or of a folder of tables.

    Raises `DataError` if no row is usable.
    """
    examples = (item for item in stream(Source(path=place, text=template)) if isinstance(item, Example))
    return [Request(turns=example.turns) for example in islice(examples, MAX_FOREIGN)]


def open_run(run: Run) -> tuple[Card, Dataset]:
    """The card and the data of a finished run, with the roles used in training.

    Raises `AdapterError` for a folder without a run, or if its data no longer give the adapter's form.
    """
    if run.state == "empty":
        raise AdapterError(run.folder, f"not a vlm-ft train run (no {run.recipe_file.name})", "give a run folder")
    card, dataset = read_card(run.adapter), load(run.recipe, run.splits)
    dataset = replace(dataset, form=dataset.form.with_boxes(card.form.boxes))
    if dataset.form.fingerprint != card.form.fingerprint:
        now, then = dataset.form.fingerprint, card.form.fingerprint
        problem = f"its data now give form {now}, but the adapter answers form {then}"
        raise AdapterError(run.folder, problem, "restore the data, or train again")
    return card, dataset


def summary(evaluation: Evaluation) -> Table:
    """The metrics as a terminal table, one row per metric and one column per system; the adapter's with intervals."""
    columns = (Column(name, no_wrap=True) for name in evaluation.systems)
    table = Table("field", "metric", "n", *columns, caption=evaluation.notice or None)
    for metric in evaluation.systems[ADAPTER]:
        found = evaluation.by_system(metric)
        cells = [f"{found[system].value:.3f}" if system in found else "-" for system in evaluation.systems]
        cells[list(evaluation.systems).index(ADAPTER)] += f" [{metric.low:.2f}, {metric.high:.2f}]"
        table.add_row(metric.field, metric.name, str(metric.count), *cells)
    return table
