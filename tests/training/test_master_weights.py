"""Small steps add up, whatever the dtype of the base, and the saved weights have that dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from tests.training.killed import train_until
from vlm_ft.adapters import ADAPTER, TENSORS
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run
from vlm_ft.training.master_weights import master_weights
from vlm_ft.training.run import train

Recipes = Callable[..., Recipe]


def test_small_steps_add_up() -> None:
    """Each step is smaller than half the distance from 1 to the next number in bf16, 2**-8 below it."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    with master_weights(layer, "bf16"):
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16):
                layer(torch.ones(1, 1)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.item() == pytest.approx(0.98, abs=2**-9)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_stay_in_16_bits_without_autocast(precision: Any) -> None:
    """Otherwise, layers that are not trained would get inputs of another dtype than theirs."""
    layer = nn.Linear(1, 1, dtype=torch.bfloat16)
    with master_weights(layer, precision):
        assert layer.weight.dtype == (torch.float32 if precision == "bf16" else torch.bfloat16)


@pytest.mark.parametrize("base", ["qwen3_vl", "fast_vlm"])
@pytest.mark.parametrize("language", ["lora", "full"])
def test_a_run_on_a_bf16_base_resumes_with_its_weights_in_fp32(
    base: str, language: str, recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(
        base,
        dtype="bfloat16",
        adapter={"language": language, "projector": "full", "vision": "full"},
        training={"max_steps": 4, "evaluations": 2, "precision": "bf16"},
    )
    train(recipe, tmp_path / "unbroken", console=quiet)
    train_until(3, recipe, tmp_path / "run", quiet, monkeypatch)
    checkpoint = Run(tmp_path / "run").checkpoint
    assert checkpoint
    file = TENSORS if language == "lora" else "model.safetensors"
    in_training = load_file(checkpoint / file)
    train(recipe, tmp_path / "run", resume=True, console=quiet)
    unbroken, resumed = (load_file(tmp_path / run / ADAPTER / file) for run in ("unbroken", "run"))
    in_full = [name for name in resumed if "projector" in name or "merger" in name]
    assert in_full
    assert {in_training[name].dtype for name in in_full} == {torch.float32}
    assert {resumed[name].dtype for name in in_full} == {torch.bfloat16}
    assert all(torch.equal(value, unbroken[name]) for name, value in resumed.items())
