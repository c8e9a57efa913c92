"""The shapes of well-known bases on the Hub, so that a run's memory can be estimated without a download.

Shapes are those in each model's config.json. `parameters` is the count on its model page, which a test compares with
the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class HubBase:
    """A base on the Hub: its architecture, its shape, and the number of pixels per image token."""

    model_type: str
    parameters: float  # billions, as published
    text: dict[str, Any]
    vision: dict[str, Any] | None = None
    pixels_per_token: float = 0.0
    patches_per_token: int = 1
    fewest_image_tokens: int = 0
    most_image_tokens: int = 0

    def image_tokens(self, pixels: int) -> int:
        """The approximate number of tokens for an image with this many pixels."""
        if self.vision is None or not pixels:
            return 0
        return min(max(round(pixels / self.pixels_per_token), self.fewest_image_tokens), self.most_image_tokens)

    def config(self) -> Any:
        """The model's configuration: its shape, and the defaults of transformers for everything else."""
        from transformers import AutoConfig

        shape = {"text_config": self.text, "vision_config": self.vision} if self.vision else dict(self.text)
        shape |= {"model_type": self.model_type, "tie_word_embeddings": self.text.get("tie_word_embeddings", False)}
        return AutoConfig.for_model(**shape)

    def empty(self) -> nn.Module:
        """The model without weights, on the meta device."""
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

        loader = AutoModelForImageTextToText if self.vision else AutoModelForCausalLM
        with torch.device("meta"):
            return loader.from_config(self.config())  # type: ignore[no-any-return]


def _text(
    kind: str, hidden: int, layers: int, inner: int, heads: int, groups: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        **more,
    }


def _qwen3(hidden: int, layers: int, inner: int, heads: int, *, tied: bool, kind: str) -> dict[str, Any]:
    return _text(kind, hidden, layers, inner, heads, 8, 151936, head_dim=128, tie_word_embeddings=tied)


def _qwen3_vl(text: dict[str, Any], vision: dict[str, Any], parameters: float) -> HubBase:
    return HubBase("qwen3_vl", parameters, text, {**vision, "out_hidden_size": text["hidden_size"]}, 32**2, 4, 4, 16384)


def _qwen25_vl(text: dict[str, Any], parameters: float) -> HubBase:
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    return HubBase(
        "qwen2_5_vl", parameters, text, {**vision, "out_hidden_size": text["hidden_size"]}, 28**2, 4, 4, 16384
    )


_SIGLIP_400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


def _onevision(text: dict[str, Any], parameters: float) -> HubBase:
    tower = {"model_type": "siglip_vision_model", "num_hidden_layers": 26, "vision_use_head": False}
    vision = {**_SIGLIP_400M, **tower}
    return HubBase("llava_onevision", parameters, text, vision, 384**2 / 729, 1, 2 * 729, 10 * 729)


_TOWER_300M = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "deepstack_visual_indexes": [5, 11, 17],
}
_TOWER_400M = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "deepstack_visual_indexes": [8, 16, 24],
}
HUB_BASES: dict[str, HubBase] = {
    "Qwen/Qwen3-VL-2B-Instruct": _qwen3_vl(
        _qwen3(2048, 28, 6144, 16, tied=True, kind="qwen3_vl_text"), _TOWER_300M, 2.13
    ),
    "Qwen/Qwen3-VL-4B-Instruct": _qwen3_vl(
        _qwen3(2560, 36, 9728, 32, tied=True, kind="qwen3_vl_text"), _TOWER_300M, 4.44
    ),
    "Qwen/Qwen3-VL-8B-Instruct": _qwen3_vl(
        _qwen3(4096, 36, 12288, 32, tied=False, kind="qwen3_vl_text"), _TOWER_400M, 8.77
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen25_vl(
        _text("qwen2_5_vl_text", 2048, 36, 11008, 16, 2, 151936, tie_word_embeddings=True), 3.75
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen25_vl(_text("qwen2_5_vl_text", 3584, 28, 18944, 28, 4, 152064), 8.29),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": _onevision(
        _text("qwen2", 896, 24, 4864, 14, 2, 152000, tie_word_embeddings=True), 0.89
    ),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": _onevision(_text("qwen2", 3584, 28, 18944, 28, 4, 152128), 8.03),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": HubBase(
        "smolvlm",
        2.25,
        _text("llama", 2048, 24, 8192, 32, 32, 49280),
        {**_SIGLIP_400M, "num_hidden_layers": 27},
        384**2 / 81,
        9,
        81,
        17 * 81,
    ),
    "Qwen/Qwen3-1.7B": HubBase("qwen3", 1.72, _qwen3(2048, 28, 6144, 16, tied=True, kind="qwen3")),
    "Qwen/Qwen3-4B-Instruct-2507": HubBase("qwen3", 4.02, _qwen3(2560, 36, 9728, 32, tied=True, kind="qwen3")),
}
"""Hub name -> base; those without a tower are causal language models, for text tasks."""
