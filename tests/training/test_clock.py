"""The seconds of a run are those of all its parts: planned, and told."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

from vlm_ft.recipe import Training
from vlm_ft.training.progress import KeepTime
from vlm_ft.training.rehearse import Cost, plan_steps


def test_a_resumed_run_counts_the_seconds_before_its_checkpoint(tmp_path: Path) -> None:
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    first = KeepTime()
    first.on_train_begin(arguments, SimpleNamespace(global_step=0), None)
    time.sleep(0.05)
    first.on_save(arguments, SimpleNamespace(global_step=5), None)
    time.sleep(0.05)  # lost: the run is stopped after its checkpoint
    second = KeepTime()
    second.on_train_begin(arguments, SimpleNamespace(global_step=5), None)
    assert 0.05 <= second.seconds < 0.1


def test_minutes_hold_the_looks_too() -> None:
    settings = Training(minutes=2, evaluations=4)
    for look in (0.0, 3.0, 10.0):
        cost = Cost(step=0.5, look=look, peak_bytes=0)
        assert cost.minutes(plan_steps(settings, 100, cost), settings.evaluations) <= 2


def test_a_large_tune_leaves_half_the_time_to_the_steps() -> None:
    assert plan_steps(Training(minutes=2, evaluations=8), 100, Cost(step=1.0, look=60.0, peak_bytes=0)) == 60
