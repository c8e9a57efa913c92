"""The progress of scoring: as a bar or, without a terminal, as lines of text; and in a file for other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import rich.progress
from rich.console import Console

from vlm_ft.runs import store, stored
from vlm_ft.scoring.score import Progress

EVERY, MOST_TIMES = 2.0, 1000  # seconds between lines, or between versions of the file; their number in a run
PROGRESS = "progress.json"
"""The name of the file in the folder of a job."""

Show = Callable[[Progress], None]


@contextmanager
def shown(console: Console, file: Path | None = None) -> Iterator[Show]:
    """Show progress, and keep it in a file if one is given; yields the function to call with every change."""
    with _bar(console) if console.is_terminal else _lines(console) as show:
        keep = _now_and_then(lambda state: store(file, asdict(state))) if file is not None else None

        def update(state: Progress) -> None:
            show(state)
            if keep is not None:
                keep(state)

        yield update


def read_progress(file: Path) -> Progress | None:
    """The progress in a file; None before there is any."""
    return stored(file, Progress) if file.is_file() else None


def _now_and_then(show: Show) -> Show:
    """Call a function at the beginning, now and then, and at the end."""
    last_time, last_done = float("-inf"), float("-inf")

    def called(state: Progress) -> None:
        nonlocal last_time, last_done
        now = time.monotonic()
        due = now - last_time >= EVERY and (state.done - last_done) * MOST_TIMES >= state.total
        if due or (state.done == state.total and last_done < state.total):
            last_time, last_done = now, state.done
            show(state)

    return called


@contextmanager
def _lines(console: Console) -> Iterator[Show]:
    yield _now_and_then(
        lambda state: console.print(f"scored {state.done} of {state.total}, {state.images_per_second:.1f} images/s")
    )


@contextmanager
def _bar(console: Console) -> Iterator[Show]:
    with rich.progress.Progress(
        rich.progress.TextColumn("scoring"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.description}"),
        console=console,
    ) as bar:
        task = bar.add_task("", total=None)

        def show(state: Progress) -> None:
            aside = f"{state.set_aside} set aside, " if state.set_aside else ""
            rate = f"{aside}{state.images_per_second:.1f} images/s"
            bar.update(task, completed=state.done, total=state.total, description=rate)

        yield show
