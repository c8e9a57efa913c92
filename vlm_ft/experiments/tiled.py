"""Compare one adapter on the same large photos, whole and tiled: figures, and recall by area."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from rich.console import Console
from rich.table import Table

from datasets_vision.example import Example
from datasets_vision.images import image_size
from datasets_vision.source import Source
from vlm_ft.adapters import adapter_folder, read_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxedList, Strict
from vlm_ft.answers.metrics import Metric, measure
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Task, Values
from vlm_ft.data.cases import Labelled, labelled, narrowed
from vlm_ft.data.tiles import require_boxes, with_more_items
from vlm_ft.errors import DataError, FormError
from vlm_ft.experiments.by_area import AreaRecall, quantile_bins, recall_by_area
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Predictor, Request
from vlm_ft.pages import markdown_table
from vlm_ft.recipe import Tiling
from vlm_ft.tasks import task_of

RESULTS = "tiling"
WHOLE, TILED = "whole", "tiled"


class Outcome(Strict):
    """The results on whole or on tiled photos: figures, recall by area, seconds per photo, failed photos."""

    figures: tuple[Metric, ...]
    coco: tuple[AreaRecall, ...]
    quantiles: tuple[AreaRecall, ...]
    unnamed: tuple[AreaRecall, ...]
    seconds: float
    failed: int


class Comparison(Strict):
    """The results on the same photos, whole and tiled."""

    adapter: str
    tiling: Tiling
    photos: int
    objects: int
    pixels: int
    ways: dict[str, Outcome]


def compare_tiling(
    adapter: Path,
    source: Source,
    tiling: Tiling,
    out: Path,
    *,
    console: Console,
    task_file: Path | None = None,
    base: str | None = None,
    batch_size: int = 16,
) -> Comparison:
    """Run one adapter on labelled photos, whole and tiled; write ``tiling.json`` and ``tiling.md`` to `out`.

    Raises `DataError` if no photo has boxes that the adapter's form asks for.
    """
    place = adapter_folder(adapter)
    card = read_card(place)
    photos = _photos(source, card.form, task_of(card.form.task, task_file), tiling)
    engine = Engine.open([place], base=base, batch_size=batch_size)
    ways = {}
    tilings: dict[str, Tiling | Literal["card", "none"]] = {WHOLE: "none", TILED: tiling}
    for way, cut in tilings.items():
        console.print(f"{len(photos.examples)} photos, {way}", markup=False)
        requests = [Request(images=example.images, adapter=card.name, tiling=cut) for example in photos.examples]
        ways[way] = _measured(engine, requests, photos)
    comparison = Comparison(
        adapter=card.name,
        tiling=tiling,
        photos=len(photos.examples),
        objects=sum(map(len, photos.items)),
        pixels=round(fmean(width * height for width, height in photos.sizes)),
        ways=ways,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{RESULTS}.json").write_text(comparison.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / f"{RESULTS}.md").write_text(markdown(comparison), encoding="utf-8")
    console.print(_table(comparison))
    return comparison


@dataclass(frozen=True)
class _Photos:
    """Labelled photos, their true values, and a form with room for all items of each."""

    form: Form
    boxed: BoxedList
    examples: Sequence[Example]
    truths: Sequence[Values]
    sizes: Sequence[tuple[int, int]]

    @property
    def items(self) -> list[list[Values]]:
        return [truth.get(self.boxed.name, []) for truth in self.truths]


def _photos(source: Source, form: Form, task: Task, tiling: Tiling) -> _Photos:
    require_boxes(task, form.names)
    photos = [item.whole for item in labelled(task, (source,), tiling, 0) if isinstance(item, Labelled)]
    if not photos:
        raise DataError(source.path, "no photo with boxes", "give a data set with labelled boxes")
    long = with_more_items(form)
    try:
        truths = [narrowed(photo.values, long) for photo in photos]
    except FormError as error:
        raise DataError(source.path, f"a label does not fit the adapter's form: {error}") from error
    examples = [photo.example for photo in photos]
    sizes = [image_size(example.images[0]) for example in examples]
    return _Photos(long, next(BoxedList.all_in(long.fields)), examples, truths, sizes)


def _measured(engine: Predictor, requests: Sequence[Request], photos: _Photos) -> Outcome:
    start, predictions = time.monotonic(), list[Prediction]()
    for request in requests:
        predictions += engine.predict([request])
    seconds = (time.monotonic() - start) / len(requests)
    kind = photos.boxed.kind
    answers = [prediction.values.get(photos.boxed.name) for prediction in predictions]
    quantiles = quantile_bins(photos.items, photos.sizes, photos.boxed.box)
    return Outcome(
        figures=measure(photos.form, photos.truths, predictions),
        coco=recall_by_area(kind, photos.items, answers, photos.sizes),
        quantiles=recall_by_area(kind, photos.items, answers, photos.sizes, bins=quantiles),
        unnamed=recall_by_area(kind, photos.items, answers, photos.sizes, named=False),
        seconds=seconds,
        failed=sum(prediction.error is not None for prediction in predictions),
    )


def rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """(figure, number of cases, its value on whole photos, its value on tiled photos) for each figure."""
    whole, tiled = comparison.ways[WHOLE], comparison.ways[TILED]
    found = [
        (
            f"{one.field or 'answer'} {one.name}",
            str(one.count),
            _interval(one.value, one),
            _interval(other.value, other),
        )
        for one, other in zip(whole.figures, tiled.figures, strict=True)
    ]
    for title, part in (("recall", "coco"), ("recall", "quantiles"), ("recall with any name", "unnamed")):
        for one, other in zip(getattr(whole, part), getattr(tiled, part), strict=True):
            high = "" if one.high_area is None else f" to {one.high_area:.0f}"
            name = f"{title}, {one.name} ({one.low_area:.0f}{high} px²)"
            found.append((name, str(one.objects), _interval(one.recall, one), _interval(other.recall, other)))
    found.append(("seconds per photo", str(comparison.photos), f"{whole.seconds:.2f}", f"{tiled.seconds:.2f}"))
    return found


def markdown(comparison: Comparison) -> str:
    """The comparison as a page."""
    tiling = comparison.tiling
    lines = [
        f"# Whole and tiled photos: {comparison.adapter}",
        "",
        f"{comparison.photos} photos of {comparison.pixels / 1e6:.1f} megapixels with {comparison.objects} objects; "
        f"tiles of {tiling.side} pixels with an overlap of {tiling.overlap}. Intervals are 95 %, over photos.",
        "",
        markdown_table(["", "n", WHOLE, TILED], rows(comparison), ("n",)),
    ]
    return "\n".join(lines) + "\n"


def _interval(value: float | None, interval: Metric | AreaRecall) -> str:
    if value is None or interval.low is None or interval.high is None:
        return "-"
    return f"{value:.3f} [{interval.low:.2f}, {interval.high:.2f}]"


def _table(comparison: Comparison) -> Table:
    table = Table("", "n", WHOLE, TILED)
    for row in rows(comparison):
        table.add_row(*row)
    return table
