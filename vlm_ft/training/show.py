"""What a run prints before it starts: data, trained parts, rows, cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlm_ft.bases.parts import part_sizes
from vlm_ft.bases.reader import mismatch_in_one_line
from vlm_ft.data.cases import Dataset
from vlm_ft.recipe import Recipe
from vlm_ft.training.fill import Filler
from vlm_ft.training.memory import LongestRow, needs
from vlm_ft.training.prepare import Prepared, prepare
from vlm_ft.training.rehearse import GIB, measure

SHOWN_ROWS = 3
SHOWN_SET_ASIDE = 10


def dry_run(recipe: Recipe, console: Console, dataset: Dataset | None = None) -> tuple[str, int]:
    """Show what a run would do and cost, from real rows and timed steps.

    Returns the cost in one line, and the peak memory in bytes, on the GPU if there is one.

    Nothing is trained or written. `dataset`: the recipe's data, if already read.
    """
    prepared = prepare(recipe, known=dataset)
    announce(recipe, prepared, console)
    for index in range(min(SHOWN_ROWS, len(prepared.train.cases))):
        console.rule(Text(f"row {index + 1}: {prepared.train.cases[index].example.id}"))
        for row in prepared.train.rows(index):
            console.print(render(prepared.conversation.view(row)))
    console.rule()
    lengths, limit = prepared.lengths, prepared.base.reader.max_length
    console.print(
        f"tokens: longest row {lengths.longest} of {limit}, mean {lengths.total / lengths.rows:.0f}, "
        f"at most {lengths.most_image_tokens} image tokens"
    )
    prepared.method.begin(prepared.base, prepared.conversation)
    with mismatch_in_one_line(recipe.base):
        cost = measure(prepared.attached.model, prepared.train, prepared.tune, recipe.training)
    memory = "GPU" if torch.cuda.is_available() else "resident"
    with TemporaryDirectory() as bank:
        schedule = Filler(prepared, recipe, Path(bank)).plan(cost, console)
    summary = f"{schedule}; peak {memory} memory {cost.peak_bytes / GIB:.2f} GiB"
    console.print(summary)
    console.print(memory_table(recipe, prepared))
    return summary, cost.peak_bytes


def announce(recipe: Recipe, prepared: Prepared, console: Console) -> None:
    """Print what is about to be trained: the data, the form, and the trainable share of each part."""
    dataset = prepared.dataset
    counts = ", ".join(f"{role} {count}" for role, count in dataset.counts.items() if count)
    console.print(f"[bold]{recipe.name}[/]  {dataset.form.title}: {counts}; set aside {len(dataset.set_aside)}")
    for entry in dataset.set_aside[:SHOWN_SET_ASIDE]:
        console.print(f"  set aside {entry.place}: {entry.reason}", style="yellow", markup=False)
    if len(dataset.set_aside) > SHOWN_SET_ASIDE:
        more = len(dataset.set_aside) - SHOWN_SET_ASIDE
        console.print(f"  … and {more} more: vlm-ft data read shows all", style="yellow")
    notes, reader = [*dataset.notes, *prepared.attached.notes], prepared.base.reader
    if recipe.pixels and reader.family.pixel_limits == "fixed":
        notes.append(f"pixels: no effect, since this base scales every photo to {reader.most_pixels} pixels")
    for note in notes:
        console.print(f"  note: {note}", style="yellow", markup=False)
    if dataset.form.notice:
        console.print(f"  {dataset.form.notice}", markup=False)
    console.print(size_table(prepared))


def render(pieces: Sequence[tuple[str, bool]]) -> Text:
    """A row's tokens as text, with the supervised ones highlighted."""
    text = Text()
    for piece, supervised in pieces:
        text.append(f"⟦{piece}⟧" if supervised else piece, style="bold green" if supervised else "dim")
    return text


def size_table(prepared: Prepared) -> Table:
    """The parameters of each part, how many of them are trained, and the learning rate."""
    table = Table("part", "trained", "learning rate", "parameters", "trainable", "share")
    for row in part_sizes(prepared.attached.model, prepared.base.family):
        tuning = prepared.attached.tunings.get(row.part, "")  # type: ignore[call-overload]
        rate = f"{prepared.rates[row.part]:g}" if tuning not in ("", "frozen") else ""
        share = f"{row.trainable / row.total:.2%}" if row.total else "-"
        table.add_row(row.part, tuning, rate, f"{row.total:,}", f"{row.trainable:,}", share)
    return table


def memory_table(recipe: Recipe, prepared: Prepared) -> Any:
    """The estimated GPU memory of the same recipe with other bases from the Hub; nothing is downloaded."""
    lengths = prepared.lengths
    row = LongestRow.of(lengths, recipe.pixels)
    table = Table("with another base:", "tokens", "bf16", "quantize: nf4")
    for need in needs(recipe.adapter, row, recipe.training.batch_size * prepared.method.rows_per_case):
        nf4 = "" if need.nf4 is None else f"{need.nf4 / GIB:.0f} GiB"
        table.add_row(need.base, str(need.tokens), f"{need.bf16 / GIB:.0f} GiB", nf4)
    table.caption = f"estimated GPU memory at batch size {recipe.training.batch_size}"
    return table
