"""How long a run is: optimiser steps, and looks at `tune`, from what each takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlm_ft.recipe import Training

LOOKING = 0.2  # of a run's minutes, at most


@dataclass(frozen=True)
class Cost:
    """Seconds of an optimiser step and of one look at all of `tune`; bytes of memory at the peak."""

    step: float
    look: float
    peak_bytes: int


@dataclass(frozen=True)
class Plan:
    """Optimiser steps of so many rows, and after how many a look at `tune` and a checkpoint; seconds of each."""

    steps: int
    rows: int
    every: int
    step: float
    look: float

    @property
    def looks(self) -> int:
        """At `tune`, one at the end among them; none where there is no `tune`."""
        return math.ceil(self.steps / self.every) if self.look else 0

    def __str__(self) -> str:
        looks = f", {self.looks} looks at `tune` of {self.look:.1f} s" if self.looks else ""
        minutes = (self.steps * self.step + self.looks * self.look) / 60
        return f"{self.steps} steps of {self.rows} rows, {self.step:.2f} s each{looks}: about {minutes:.1f} min"


def plan(settings: Training, examples: int, cost: Cost) -> Plan:
    """`max_steps`, or what fits into `minutes` beside the looks, or the epochs' steps.

    Of `minutes` the looks take `LOOKING` at most: at a large `tune` there are fewer of them, and at least one.
    """
    rows, looks = settings.batch_size * settings.accumulate, settings.evaluations
    if settings.max_steps is not None:
        steps = settings.max_steps
    elif settings.minutes is not None:
        seconds = settings.minutes * 60
        if cost.look:
            looks = min(looks, max(1, int(LOOKING * seconds / cost.look)))
        steps = max(1, int(max(seconds - looks * cost.look, seconds / 2) / cost.step))
    else:
        steps = max(1, math.ceil(settings.epochs * examples / rows))
    return Plan(steps, rows, math.ceil(steps / looks), cost.step, cost.look)
