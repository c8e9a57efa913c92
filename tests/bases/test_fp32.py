"""A convolutional tower computes in fp32, also where the rest of the model does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vlm_ft.bases.load import Base, load_base


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
