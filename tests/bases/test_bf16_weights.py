"""Copies of weights in bf16 change nothing but the time."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from vlm_ft.bases.bf16_weights import Bf16Weights, linear_layers
from vlm_ft.bases.load import Base
from vlm_ft.bases.tiny import TINY

IDS = torch.arange(5, 25).reshape(2, 10)


@pytest.mark.parametrize("name", list(TINY))
def test_logits_are_those_of_autocast(name: str, tiny_base: Callable[[str], Base]) -> None:
    base = tiny_base(name)
    layers = linear_layers(base.model, base.family)
    exact = [layer.weight for layer in layers]
    short = Bf16Weights(layers)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        converted = base.model(input_ids=IDS).logits
        with short.in_place():
            assert {layer.weight.dtype for layer in layers} == {torch.bfloat16}
            assert torch.equal(base.model(input_ids=IDS).logits, converted)
    with pytest.raises(KeyError), short.in_place():
        raise KeyError
    assert all(layer.weight is weight for layer, weight in zip(layers, exact, strict=True))


def test_a_convolutional_tower_keeps_its_precision(tiny_base: Callable[[str], Base]) -> None:
    base = tiny_base("fast_vlm")
    base.model.model.vision_tower.head = nn.Linear(2, 2)
    assert base.model.model.vision_tower.head not in linear_layers(base.model, base.family)


def test_no_copies_are_made_without_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(1000, 1000)  # two megabytes in bf16
    for free, dtype in ((10**6, torch.float32), (10**8, torch.bfloat16)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        with Bf16Weights([layer]).in_place():
            assert layer.weight.dtype == dtype
