"""Under a launcher, every process trains, and only the first one writes; the losses are those of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.processes import PROCESSES, check, recipes_of, written_files
from vlm_ft.recipe import Recipe

ROOT = str(Path(__file__).parents[2])


@pytest.mark.timeout(900)
def test_two_processes_train_like_one_and_only_the_first_writes(
    recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    files, out = written_files(recipes_of(recipe_of, tmp_path, accumulate=1), tmp_path), tmp_path / "runs"
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={PROCESSES}", "--master_addr=127.0.0.1"]
    launch += ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.processes", out, *files],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ROOT,
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(recipe_of, out)
