"""Plan the length of a run: its optimiser steps and evaluations on `tune`, from the measured cost of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import Field

from vlm_ft.answers.kinds import Strict
from vlm_ft.recipe import Training

MAX_EVAL_SHARE = 0.2  # of a run's minutes


@dataclass(frozen=True)
class Cost:
    """Seconds per optimiser step and per evaluation (`look`) on all of `tune`, and peak memory in bytes.

    The peak includes AdamW's moments. `spent`: seconds that the run takes before its first step.
    """

    step: float
    look: float
    peak_bytes: int
    spent: float = 0.0


class Plan(Strict):
    """The number of optimiser steps, the rows per step and process, and the seconds per step and per evaluation.

    `every` is the number of steps between evaluations on `tune`, and between checkpoints. `views`: how many variants of
    each training photo the vision bank keeps; 0 for no bank.
    """

    steps: int = Field(ge=1)
    rows: int = Field(ge=1)
    every: int = Field(ge=1)
    step: float
    look: float
    views: int = Field(default=0, ge=0)

    @property
    def looks(self) -> int:
        """The number of evaluations on `tune`, including the last one at the end; 0 without `tune`."""
        return math.ceil(self.steps / self.every) if self.look else 0

    @property
    def seconds(self) -> float:
        """The time of all steps and evaluations."""
        return self.steps * self.step + self.looks * self.look

    def __str__(self) -> str:
        looks = f", evaluated on `tune` every {self.every} ({self.look:.1f} s)" if self.looks else ""
        about = f"about {self.seconds / 60:.1f} min"
        return f"{self.steps} steps of {self.rows} rows, {self.step:.2f} s each{looks}: {about}"


def plan(settings: Training, examples: int, cost: Cost, processes: int = 1) -> Plan:
    """The plan for this many examples: `max_steps`, or else what fits into `minutes`, or else `epochs`.

    Evaluations take at most `MAX_EVAL_SHARE` of `minutes`: a large `tune` is evaluated less often, but at least once.
    """
    rows, looks = settings.batch_size * settings.accumulate, settings.evaluations
    if settings.max_steps is not None:
        steps = settings.max_steps
    elif settings.minutes is not None:
        seconds = max(settings.minutes * 60 - cost.spent, 0.0)
        if cost.look:
            looks = min(looks, max(1, int(MAX_EVAL_SHARE * seconds / cost.look)))
        steps = max(1, int(max(seconds - looks * cost.look, seconds / 2) / cost.step))
    else:
        steps = math.ceil(settings.epochs * _epoch(settings, examples, processes))
    return Plan(steps=steps, rows=rows, every=math.ceil(steps / looks), step=cost.step, look=cost.look)


def _epoch(settings: Training, examples: int, processes: int) -> int:
    """The steps of an epoch: processes take whole batches in turn, and no step spans two epochs."""
    batches = math.ceil(math.ceil(examples / settings.batch_size) / processes)
    return math.ceil(batches / settings.accumulate)
