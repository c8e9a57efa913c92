"""A training step can be read in one sitting: few functions of ours lie between the trainer and the loss."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from rich.console import Console

import vlm_ft
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train
from vlm_ft.training.trainer import MethodTrainer

PACKAGE = Path(vlm_ft.__file__).parent
FUNCTIONS = 10
FILES = (
    7  # the trainer, the method, the likelihood, and four that decoding shares: families, positions, tokens, attention
)


def in_model(frame: FrameType | None) -> bool:
    """Whether a module's forward pass called this function."""
    while frame is not None and frame.f_code.co_name != "compute_loss":
        if frame.f_code is torch.nn.Module._call_impl.__code__:
            return True
        frame = frame.f_back
    return False


def test_ten_functions_lie_between_the_trainer_and_the_loss(
    recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nested functions count as part of the one around them; what the model calls does not count."""
    path = set[tuple[str, str]]()
    real = MethodTrainer.compute_loss

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        ours = PACKAGE in Path(code.co_filename).parents and code is not real.__code__
        if event == "call" and ours and not in_model(frame):
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
