"""Frozen weights stay unchanged in training, and so do the settings that adapters share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.nn.modules.batchnorm import _BatchNorm

from vlm_ft.adapters import ADAPTER
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.load import load_base
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.recipe import Recipe
from vlm_ft.training import run as runs
from vlm_ft.training.attach import parameter_groups
from vlm_ft.training.methods.sft import SFT
from vlm_ft.training.prepare import prepare

Recipes = Callable[..., Recipe]
SQUARE = 56 * 56  # pixels of a tile of the tiny LLaVA-OneVision


@pytest.mark.parametrize("vision", ["frozen", "lora", "full"])
def test_batch_norms_keep_their_statistics(vision: str, recipe_of: Recipes) -> None:
    """`Trainer` calls `model.train()`, and no adapter stores running means and variances."""
    prepared = prepare(recipe_of("fast_vlm", adapter={"vision": vision, "projector": "full", "rank": 4}))
    model = prepared.attached.model
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    assert norms
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        model.train()
        prepared.method.loss(model, prepared.train([step]), None).backward()
        optimiser.step()
        optimiser.zero_grad()
    for norm, (mean, variance) in zip(norms, before, strict=True):
        assert torch.equal(norm.running_mean, mean)
        assert torch.equal(norm.running_var, variance)
        assert norm.num_batches_tracked == 0


def test_a_pixel_limit_leaves_the_grids_of_llava_onevision(
    run_of: Callable[..., Path], drawings: Path, tiny_folder: Callable[[str], Path]
) -> None:
    """A pixel limit works in training and serving, and changes neither the model's grids nor another adapter's."""
    held = run_of("llava_onevision", name="held", pixels={"minimum": 1, "maximum": 2 * SQUARE})
    free = run_of("llava_onevision", name="free")
    grids = load_base(str(tiny_folder("llava_onevision"))).model.config.image_grid_pinpoints
    engine = Engine.open([held / ADAPTER, free / ADAPTER])
    assert engine.cards["held"].limits == Limits((1, 2 * SQUARE))
    photo = sorted((drawings / "JPEGImages").glob("*.png"))[0]
    requests = [Request(images=(photo,), adapter=name) for name in ("held", "free", "held")]
    answers = engine.predict(requests)
    assert [answer.error for answer in answers] == [None] * 3
    assert answers[0] == answers[2]
    assert answers[1] == Engine.open([free / ADAPTER]).predict([requests[1]])[0]
    assert engine.base.model.config.image_grid_pinpoints == grids
    for card in engine.cards.values():
        reader = engine.base.reader.limited(card.limits)
        assert reader.processor.image_processor.image_grid_pinpoints == grids


@pytest.mark.parametrize("base", ["qwen3_vl", "fast_vlm"])
def test_each_part_learns_at_its_rate(base: str, recipe_of: Recipes) -> None:
    """A rate close to zero leaves its part unchanged in a step that moves the others."""
    adapter: dict[str, Any] = {"vision": "lora", "projector": "full", "rates": {"projector": 1e-12}}
    prepared = prepare(recipe_of(base, adapter=adapter))
    model = prepared.attached.model
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(parameter_groups(prepared.attached, prepared.rates, 0.0))
    prepared.method.loss(model, prepared.train([0]), None).backward()
    optimiser.step()
    change = {
        name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters() if name in before
    }
    assert max(change[name] for name in change if ".modules_to_save." in name) < 1e-6
    assert max(change[name] for name in change if "lora_B" in name) > 1e-3


def test_activations_are_recomputed_in_the_rehearsal_and_in_training(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the rehearsal would run out of memory when training does not, and estimate the wrong duration."""
    seen: dict[str, list[bool]] = {"measure": [], "train": []}
    stage = ["train"]

    def noted(self: SFT, model: Any, *given: Any) -> Any:
        plain = model.module if hasattr(model, "module") else model
        if plain.training:
            seen[stage[0]].append(bool(plain.get_base_model().is_activation_checkpointing))
        return real_loss(self, model, *given)

    def measured(*given: Any) -> Any:
        stage[0] = "measure"
        try:
            return real_measure(*given)
        finally:
            stage[0] = "train"

    real_loss, real_measure = SFT.loss, runs.measure
    monkeypatch.setattr(runs, "measure", measured)
    monkeypatch.setattr(SFT, "loss", noted)
    for checkpointing in (True, False):
        out = tmp_path / str(checkpointing)
        runs.train(recipe_of("qwen3_vl", training={"checkpointing": checkpointing}), out, console=quiet)
        for name, found in seen.items():
            assert found, name
            assert set(found) == {checkpointing}, name
            found.clear()


@pytest.mark.parametrize("base", ["qwen3_vl", "llava_siglip_qwen2", "fast_vlm", "gemma3"])
def test_recomputed_activations_give_the_same_gradients(base: str, recipe_of: Recipes) -> None:
    gradients = []
    for checkpointing in (False, True):
        prepared = prepare(recipe_of(base, training={"checkpointing": checkpointing}))
        model = prepared.attached.model.train()
        prepared.method.loss(model, prepared.train([0, 1]), None).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert any(gradient is not None and gradient.any() for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)
