"""The check after training accepts a saved model only if it answers as the trained model did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.families import SEEING
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.errors import AdapterError
from vlm_ft.recipe import Recipe
from vlm_ft.training.prepare import Prepared, prepare
from vlm_ft.training.verify import Witness, checksum, trained_values, verify, witness

Recipes = Callable[..., Recipe]
Runs = Callable[..., Path]
TUNED: dict[str, dict[str, Any]] = {
    "nf4 and a full projector": {"quantize": "nf4", "adapter": {"projector": "full"}},
    "whole": {"adapter": {"language": "full", "projector": "full", "vision": "full"}},
}


def trained(recipe: Recipe, folder: Path) -> tuple[Prepared, Witness]:
    """A run of one large step, without the trainer, saved in `folder`."""
    prepared = prepare(recipe)
    model = prepared.attached.model
    before, frozen = trained_values(model), checksum(model)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # LoRA's first matrices move only once the second ones have
        prepared.method.loss(model.train(), prepared.train([0, 1]), None).backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(str(folder))
    return prepared, witness(model, folder, prepared.conversation, prepared.train.rows(0)[0], before, frozen)


@pytest.mark.parametrize("name", SEEING)
def test_a_quantized_base_passes_and_an_altered_adapter_does_not(name: str, recipe_of: Recipes, tmp_path: Path) -> None:
    recipe = recipe_of(name, quantize="nf4", training={"precision": "auto"})
    prepared, seen = trained(recipe, tmp_path)
    probe = prepared.train.rows(0)[0]
    proof = verify(seen, tmp_path, prepared.conversation, probe, prepared.fresh())
    assert proof.probe_change > 0
    file = tmp_path / "adapter_model.safetensors"
    stored = load_file(file)
    save_file({key: value + 1.0 if "lora_B" in key else value for key, value in stored.items()}, file)
    with pytest.raises(AdapterError, match="reloaded logits differ"):
        verify(seen, tmp_path, prepared.conversation, probe, prepared.fresh())


def test_an_adapter_that_changes_nothing_is_detected(recipe_of: Recipes, tmp_path: Path) -> None:
    prepared, seen = trained(recipe_of("qwen3_vl"), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({key: torch.zeros_like(value) for key, value in load_file(file).items()}, file)
    with pytest.raises(AdapterError, match="does not change the probe's logits"):
        verify(seen, tmp_path, prepared.conversation, prepared.train.rows(0)[0], prepared.fresh())


@pytest.mark.parametrize("settings", TUNED.values(), ids=TUNED)
@pytest.mark.parametrize("name", ["qwen3_vl", "fast_vlm"])
def test_an_altered_file_is_detected(name: str, settings: dict[str, Any], recipe_of: Recipes, tmp_path: Path) -> None:
    prepared, seen = trained(recipe_of(name, **settings), tmp_path)
    probe = prepared.train.rows(0)[0]
    verify(seen, tmp_path, prepared.conversation, probe, prepared.fresh())
    (file,) = tmp_path.glob("*.safetensors")
    stored = load_file(file)
    for key in stored:
        if "norm" not in key and stored[key].ndim == 2:
            stored[key] = stored[key].flip(0)
    save_file(stored, file, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="reloaded logits differ"):
        verify(seen, tmp_path, prepared.conversation, probe, prepared.fresh())


def test_a_bf16_base_passes(run_of: Runs) -> None:
    run = run_of("llava_siglip_qwen2", dtype="bfloat16", quantize="nf4")
    assert read_card(run / ADAPTER).training["reload_difference"] < 0.03


@pytest.mark.parametrize("loss_on", ["decisions", "answer"])
def test_the_readme_says_whether_the_adapter_needs_its_grammar(loss_on: str, run_of: Runs) -> None:
    """The grammar writes what the adapter has not learned to write."""
    folder = run_of("qwen3_vl", training={"loss_on": loss_on}) / ADAPTER
    assert read_card(folder).loss_on == loss_on
    assert ("grammar" in (folder / "README.md").read_text()) == (loss_on == "decisions")
