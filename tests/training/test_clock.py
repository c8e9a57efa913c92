"""The seconds of a run are those of all its parts."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

from vlm_ft.training.progress import KeepTime


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
