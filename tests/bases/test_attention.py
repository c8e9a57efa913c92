"""Attention by products gives what PyTorch's kernel gives, and leaves no trace in a saved model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vlm_ft.bases import attention
from vlm_ft.bases.attention import NAME, attend_by_products
from vlm_ft.bases.load import Base
from vlm_ft.bases.tiny import TINY

IDS = torch.arange(5, 45).reshape(2, 20)
MASK = torch.ones_like(IDS)
MASK[1, 15:] = 0


def passed(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of the tokens that are not padding, and a gradient of theirs."""
    model.zero_grad()
    logits = model(input_ids=IDS, attention_mask=MASK).logits[MASK.bool()].float()
    logits.square().mean().backward()
    return logits.detach(), model.get_input_embeddings().weight.grad.clone()


@pytest.mark.parametrize("name", list(TINY))
def test_logits_and_gradients_stay_the_same(name: str, tiny_base: Callable[[str], Base], tmp_path: Path) -> None:
    model = tiny_base(name).model
    exact = passed(model)
    with torch.autocast("cpu", torch.bfloat16):
        plain = passed(model)
        attend_by_products(model)
        found = passed(model)
    for truth, before, after in zip(exact, plain, found, strict=True):
        rounding = (before - truth).norm()
        assert (after - truth).norm() <= 1.5 * rounding  # no coarser than autocast was without it
    torch.testing.assert_close(passed(model), exact, atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_what_would_keep_too_many_attention_weights_goes_to_the_kernel(
    tiny_base: Callable[[str], Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_base("qwen3").model
    attend_by_products(model)
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        seen.append(query.dtype)
        return original(query, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    with torch.autocast("cpu", torch.bfloat16):
        by_products = passed(model)
        assert not seen
        monkeypatch.setattr(attention, "MOST", 0)
        by_kernel = passed(model)
    assert set(seen) == {torch.float32}
    torch.testing.assert_close(by_products, by_kernel, atol=2e-2, rtol=5e-2)
