"""The progress of scoring as lines of text, where there is no terminal: the log of a job shows how far it is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from rich.console import Console

from vlm_ft.scoring.score import Progress

EVERY, MOST_LINES = 2.0, 1000  # seconds between lines; lines of one run
_LINE = re.compile(r"^scored (\d+) of (\d+),", re.MULTILINE)


def printed(console: Console) -> Callable[[Progress], None]:
    """A function that prints progress now and then, and at the end."""
    last_time, last_done = float("-inf"), float("-inf")

    def show(state: Progress) -> None:
        nonlocal last_time, last_done
        now = time.monotonic()
        due = now - last_time >= EVERY and (state.done - last_done) * MOST_LINES >= state.total
        if due or (state.done == state.total and last_done < state.total):
            last_time, last_done = now, state.done
            console.print(f"scored {state.done} of {state.total}, {state.images_per_second:.1f} images/s")

    return show


def last_printed(log: str) -> tuple[int, int] | None:
    """How many are done, and of how many, by a log; None before the first line."""
    found = _LINE.findall(log)
    return (int(found[-1][0]), int(found[-1][1])) if found else None
