"""Attention by products gives what PyTorch's kernel gives, and leaves no trace in a saved model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from vlm_ft.bases import attention
from vlm_ft.bases.attention import NAME, attend_by_products, behind
from vlm_ft.bases.load import Base
from vlm_ft.bases.tiny import TINY
from vlm_ft.errors import ModelError

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


def continued(model: torch.nn.Module, starts: list[torch.Tensor | None], own: torch.Tensor) -> torch.Tensor:
    """The logits of `own` (rows, length), each row behind its start, if any, computed once per start."""
    layers = dict[int, list[tuple[torch.Tensor, torch.Tensor]]]()
    for start in starts:
        if start is not None and id(start) not in layers:
            cache = DynamicCache()
            model(input_ids=start[None], past_key_values=cache, use_cache=True)
            layers[id(start)] = [(layer.keys, layer.values) for layer in cache.layers]
    first = torch.tensor([0 if start is None else len(start) for start in starts])
    with behind([None if start is None else layers[id(start)] for start in starts]):
        places = first[:, None] + torch.arange(own.shape[1])
        return model(input_ids=own, attention_mask=torch.ones_like(own), position_ids=places, use_cache=False).logits


@pytest.mark.parametrize("most", [attention.MOST, 0])
@pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if tiny.processor is None])
def test_rows_behind_prefixes_equal_rows_that_contain_them(
    name: str, most: int, tiny_base: Callable[[str], Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MOST", most)
    model = tiny_base(name).model
    assert attend_by_products(model)
    short, long = torch.arange(5, 12), torch.arange(30, 50)
    starts, own = [long, short, None, long], torch.arange(60, 84).reshape(4, 6)
    embeddings = model.get_input_embeddings().weight

    def gradient(logits: list[torch.Tensor]) -> torch.Tensor:
        (found,) = torch.autograd.grad(sum(row.square().mean() for row in logits), embeddings)
        return found

    behind = list(continued(model, starts, own))
    alone = [
        model(input_ids=(row if start is None else torch.cat([start, row]))[None]).logits[0, -len(row) :]
        for start, row in zip(starts, own, strict=True)
    ]
    torch.testing.assert_close(behind, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient(behind), gradient(alone), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", list(TINY))
def test_every_base_is_loaded_with_this_attention(name: str, tiny_base: Callable[[str], Base]) -> None:
    """Also one whose rows cannot share a prefix: training in bf16 is faster with it."""
    assert tiny_base(name).model.config.get_text_config()._attn_implementation == NAME


def test_a_model_that_ignores_prefixes_is_refused(tiny_base: Callable[[str], Base]) -> None:
    model = tiny_base("qwen3").model
    model.set_attn_implementation("eager")
    with pytest.raises(ModelError, match="cannot attend to a shared prefix"):
        continued(model, [torch.arange(5, 12)], torch.arange(60, 66)[None])
    assert not attend_by_products(model)
