"""The figures of a benchmark: timed in turns, printed, and kept in a file that the documentation quotes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console

from vlm_ft.answers.kinds import Strict
from vlm_ft.bases.precision import cpu_name
from vlm_ft.evaluation.results import add_entries

Part = TypeVar("Part")


class Figure(Strict):
    """One entry of a file in `recipes/benchmarks`."""

    figure: str
    value: float
    goal: float | None
    better: str
    unit: str
    command: str
    machine: str

    @property
    def met(self) -> bool:
        """Whether the value reaches its goal, if it has one."""
        return self.goal is None or (self.value >= self.goal if self.better == "higher" else self.value <= self.goal)


class Sheet:
    """Collects the figures of one run."""

    def __init__(self, command: str, console: Console) -> None:
        self.figures: list[Figure] = []
        self._command, self._console = command, console

    def add(self, name: str, value: float, goal: float | None, better: str, unit: str) -> None:
        """Keep a figure, and print it."""
        found = Figure(
            figure=name,
            value=round(value, 4),
            goal=goal,
            better=better,
            unit=unit,
            command=self._command,
            machine=machine(),
        )
        self.figures.append(found)
        self._console.print(
            f"{name}: {value:.3g} {unit}" + ("" if goal is None else f" (goal {goal:g})"), highlight=False
        )

    def write(self, out: Path) -> None:
        """Add the figures to a file, where they replace those of the same name."""
        add_entries(out, Figure, self.figures, "figure")


def interleaved(systems: Sequence[Callable[[Part], Any]], parts: Sequence[Part]) -> list[float]:
    """The median seconds of each system; every system runs each part in turn, and the first part is a warm-up."""
    seconds: list[list[float]] = [[] for _ in systems]
    for part in parts:
        for times, system in zip(seconds, systems, strict=True):
            started = time.perf_counter()
            system(part)
            times.append(time.perf_counter() - started)
    return [statistics.median(times[1:]) for times in seconds]


def machine() -> str:
    """The GPU, or the processor and the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{cpu_name()}, {torch.get_num_threads()} threads"
