"""The seconds of a run cover all its parts, both planned and reported."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from vlm_ft.recipe import Training
from vlm_ft.training.plan import Cost, plan
from vlm_ft.training.progress import KeepTime


def test_a_resumed_run_counts_the_seconds_before_its_checkpoint(tmp_path: Path) -> None:
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    first = KeepTime()
    first.on_train_begin(arguments, SimpleNamespace(global_step=0), None)
    time.sleep(0.05)
    first.on_save(arguments, SimpleNamespace(global_step=5, is_world_process_zero=True), None)
    time.sleep(0.05)  # lost: the run is stopped after its checkpoint
    second = KeepTime()
    second.on_train_begin(arguments, SimpleNamespace(global_step=5), None)
    assert 0.05 <= second.seconds < 0.1


def test_minutes_include_the_evaluations() -> None:
    """If evaluations would take too much of the time, there are fewer, but at least one; half is left for the steps."""
    settings = Training(minutes=2, evaluations=4)
    plans = {
        look: plan(settings, 100, Cost(step=0.5, look=look, peak_bytes=0)) for look in (0.0, 3.0, 12.0, 60.0, 600.0)
    }
    assert [settled.looks for settled in plans.values()] == [0, 4, 2, 1, 1]
    assert all(settled.steps * 0.5 + settled.looks * look <= 120 for look, settled in plans.items() if look < 120)
    assert plans[600.0].steps == 120


@pytest.mark.parametrize("steps", range(1, 40))
def test_the_planned_evaluations_are_those_of_the_run(steps: int) -> None:
    """Evaluations come at regular steps, and at the end."""
    settled = plan(Training(max_steps=steps, evaluations=8), 100, Cost(step=1.0, look=1.0, peak_bytes=0))
    looks = {step for step in range(1, steps + 1) if step % settled.every == 0} | {steps}
    assert settled.looks == len(looks) <= 8


def test_minutes_include_the_time_before_the_first_step() -> None:
    settings = Training(minutes=2, evaluations=1)
    assert plan(settings, 100, Cost(step=1.0, look=0.0, peak_bytes=0, spent=30.0)).steps == 90
    assert plan(settings, 100, Cost(step=1.0, look=0.0, peak_bytes=0, spent=500.0)).steps == 1


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("examples", [3, 9, 24, 33])
def test_an_epoch_has_the_steps_that_the_trainer_makes(examples: int, processes: int, accumulate: int) -> None:
    """Its last step may have fewer rows, and processes share its batches."""
    batches = BatchSampler(range(examples), 8, drop_last=False)
    of_each = len(BatchSamplerShard(batches, processes) if processes > 1 else batches)
    settings = Training(epochs=10, batch_size=8, accumulate=accumulate, evaluations=1)
    settled = plan(settings, examples, Cost(step=1.0, look=0.0, peak_bytes=0), processes)
    assert settled.steps == 10 * len(range(0, of_each, accumulate))
