"""With the shipped settings for DeepSpeed, two processes train like one: ``pytest tests/soak/deepspeed_launch.py``.

``make soak`` installs the extra: ``pip install 'vlm-ft[deepspeed]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.processes import PROCESSES, check, launch, sharded_recipe, written_files
from vlm_ft.recipe import Recipe

pytest.importorskip("deepspeed", reason="deepspeed is not installed")


@pytest.mark.timeout(900)
def test_two_processes_with_deepspeed_train_like_one(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    launch(out := tmp_path / "runs", written_files({"deepspeed": sharded_recipe(recipe_of, 1)}, tmp_path))
    check({"deepspeed": sharded_recipe(recipe_of, PROCESSES)}, out)
    shards = {file.name for file in out.rglob("*zero_pp_rank_*")}
    assert len(shards) == PROCESSES  # of the optimizer's state
