"""A training step can be read in one sitting: few functions of ours lie between the trainer and the loss."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rich.console import Console

import vlm_ft
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train
from vlm_ft.training.trainer import MethodTrainer

PACKAGE = Path(vlm_ft.__file__).parent
FUNCTIONS = 10
FILES = 6  # the trainer, the method, the likelihood, and three that decoding shares: families, positions, tokens


def test_ten_functions_lie_between_the_trainer_and_the_loss(
    recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nested functions count as part of the one around them; a vision bank adds the function that reads it."""
    path = set[tuple[str, str]]()
    real = MethodTrainer.compute_loss

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and PACKAGE in Path(code.co_filename).parents:
            path.add((code.co_filename, code.co_qualname.partition(".<locals>")[0]))

    def traced(*given: Any, **options: Any) -> Any:
        sys.setprofile(note)
        try:
            return real(*given, **options)
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(MethodTrainer, "compute_loss", traced)
    train(recipe_of("qwen3_vl", bank={"use": "never"}, training={"max_steps": 1}), tmp_path / "run", console=quiet)
    assert "token_losses" in {name for _, name in path}
    assert len(path) <= FUNCTIONS, path
    assert len({file for file, _ in path}) <= FILES, path
