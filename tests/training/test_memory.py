"""Memory is estimated from shapes that agree with the models' published sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlm_ft.bases.hub import HUB_BASES
from vlm_ft.recipe import AdapterSettings, Pixels
from vlm_ft.training import memory
from vlm_ft.training.memory import LongestRow, Need, need, needs
from vlm_ft.training.rehearse import Lengths


@pytest.mark.parametrize("name", HUB_BASES)
def test_a_shape_has_the_published_number_of_parameters(name: str) -> None:
    model = HUB_BASES[name].empty()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e9 == pytest.approx(HUB_BASES[name].parameters, rel=0.01)  # pages round to two digits


def test_more_of_anything_needs_more_memory() -> None:
    name = "Qwen/Qwen3-VL-2B-Instruct"
    base, small = HUB_BASES[name], LongestRow(100, 1, 256 * 256)
    narrow = AdapterSettings(projector="frozen", rank=8)
    least = need(name, base, narrow, small, 1)
    assert least.nf4
    assert least.nf4 < least.bf16
    assert base.parameters * 2e9 < least.bf16 < base.parameters * 2e9 + 3e9
    vision = {**(base.vision or {}), "depth": 2, "deepstack_visual_indexes": [0, 1]}
    base = replace(base, text={**base.text, "num_hidden_layers": 2}, vision=vision)  # quick to build
    least = need(name, base, narrow, small, 1)
    for adapter, row, batch in (
        (narrow, small, 8),
        (narrow, LongestRow(2000, 1, 256 * 256), 1),
        (narrow, LongestRow(100, 1, 2048 * 2048), 1),
        (AdapterSettings(projector="frozen", rank=64), small, 1),
        (AdapterSettings(vision="lora", rank=8), small, 1),
    ):
        assert need(name, base, adapter, row, batch).bf16 > least.bf16


def test_full_training_takes_16_bytes_per_weight() -> None:
    """Weights, gradients and two moments in fp32; a quantized part cannot be trained in full."""
    name = "Qwen/Qwen3-VL-2B-Instruct"
    base = HUB_BASES[name]
    whole = AdapterSettings(language="full", projector="full", vision="full")
    found = need(name, base, whole, LongestRow(100, 1, 256 * 256), 1)
    assert found.nf4 is None
    assert base.parameters * 16e9 < found.bf16 < base.parameters * 16e9 + 2e9


def test_an_estimate_counts_photos_as_the_recipe_limits_them() -> None:
    """Not as the recipe's own base sees them, which may be smaller than another base would."""
    most = {"most_text_tokens": 40, "most_image_tokens": 10, "most_images": 1, "most_pixels": 512 * 384}
    lengths = Lengths(((40, 10),), 1, 50, 50, **most)
    assert LongestRow.of(lengths, None).pixels == 512 * 384
    assert LongestRow.of(lengths, Pixels(minimum=1, maximum=224 * 224)).pixels == 224 * 224
    assert LongestRow.of(lengths, Pixels(minimum=1024 * 1024, maximum=2048 * 2048)).pixels == 1024 * 1024


def test_vision_bases_are_listed_for_images_and_language_models_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "need", lambda name, *_: Need(name, 0, 0.0, 0.0))  # estimates take seconds
    adapter = AdapterSettings()
    seeing = {need.base for need in needs(adapter, LongestRow(100, 1, 640 * 480), 1)}
    reading = {need.base for need in needs(adapter, LongestRow(100, 0, 0), 1)}
    assert seeing
    assert reading
    assert not seeing & reading
