"""What computes in fp32 gives what the model gives, and leaves no trace in a saved one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vlm_ft.bases.fp32 import NAME, attend_in_fp32
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.tiny import TINY


@pytest.mark.parametrize("name", list(TINY))
def test_logits_and_gradients_stay_the_same(name: str, tiny_base: Callable[[str], Base], tmp_path: Path) -> None:
    model = tiny_base(name).model
    ids = torch.arange(5, 45).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0

    def passed() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        logits = model(input_ids=ids, attention_mask=mask).logits
        logits[mask.bool()].square().mean().backward()
        return logits[mask.bool()].detach(), model.get_input_embeddings().weight.grad.clone()

    before = passed()
    attend_in_fp32(model)
    for one, other in zip(passed(), before, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_queries_in_bf16_are_attended_to_in_fp32(tiny_base: Callable[[str], Base]) -> None:
    model = tiny_base("qwen3").model
    attend_in_fp32(model)
    ids = torch.arange(5, 45).reshape(2, 20)
    seen = []
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        original = torch.nn.functional.scaled_dot_product_attention

        def watched(query: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
            seen.append(query.dtype)
            return original(query, *arguments, **options)

        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
        model(input_ids=ids)
    assert seen
    assert set(seen) == {torch.float32}


def test_autocast_does_not_reach_a_convolutional_tower(tiny_base: Callable[[str], Base]) -> None:
    model, photos = tiny_base("fast_vlm").model, torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        plain = model.get_image_features(photos).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            found = model.get_image_features(photos)
            assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(found.last_hidden_state, plain)
    assert found.pooler_output.dtype == torch.bfloat16


def test_a_convolutional_tower_of_a_bf16_base_computes_in_fp32(tiny_folder: Callable[[str], Path]) -> None:
    base = load_base(str(tiny_folder("fast_vlm")), dtype="bfloat16")
    seen = []
    layer = next(module for module in base.model.model.vision_tower.modules() if isinstance(module, torch.nn.Conv2d))
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    found = base.model.get_image_features(torch.rand(2, 3, 64, 64).bfloat16())
    assert seen == [torch.float32]
    assert found.pooler_output.dtype == base.dtype == torch.bfloat16


def test_a_tower_that_fails_leaves_autocast_on(tiny_base: Callable[[str], Base]) -> None:
    model = tiny_base("fast_vlm").model
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            model.get_image_features(torch.rand(2, 5, 64, 64))
        assert torch.is_autocast_enabled("cpu")
