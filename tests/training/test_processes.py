"""Under a launcher, every process trains, and only the first one writes; the losses are those of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.processes import PROCESSES, check, launch, recipes_of, written_files
from vlm_ft.recipe import Recipe


@pytest.mark.timeout(900)
def test_two_processes_train_like_one_and_only_the_first_writes(
    recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    files, out = written_files(recipes_of(recipe_of, tmp_path, accumulate=1), tmp_path), tmp_path / "runs"
    launch(out, files)
    check(recipes_of(recipe_of, tmp_path, PROCESSES), out)
