"""Runs that are killed after a step, and the tensors that a run leaves."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerCallback

from vlm_ft.adapters import adapter_folder
from vlm_ft.recipe import Recipe
from vlm_ft.training import run as runs
from vlm_ft.training.run import train


def tensors(folder: Path) -> bytes:
    return (adapter_folder(folder) / "adapter_model.safetensors").read_bytes()


class KilledError(Exception):
    """Stands in for a power cut."""


class KillAt(TrainerCallback):  # type: ignore[misc]
    bar = nullcontext()

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KilledError


def train_until(step: int, recipe: Recipe, run: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the run is killed after a step."""
    with monkeypatch.context() as patch:
        patch.setattr(runs, "ShowProgress", lambda console: KillAt(step))
        with pytest.raises(KilledError):
            train(recipe, run, console=console)
