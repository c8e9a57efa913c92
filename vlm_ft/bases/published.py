"""Models with random weights in a published shape: a real base's size and speed, without a download.

The language model and the tower have the shapes in `HUB_BASES`. The tokenizer is the family's tiny one, so texts have
more tokens than with the published one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2VLImageProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from vlm_ft.bases.hub import HUB_BASES, HubBase
from vlm_ft.bases.tiny import TINY
from vlm_ft.bases.tiny.family import save, token_ids
from vlm_ft.bases.tiny.tokenizer import build_tokenizer
from vlm_ft.errors import ModelError, nearest

TOKEN_IDS = (
    *("image_token_id", "image_token_index", "video_token_id", "video_token_index"),
    *("vision_start_token_id", "vision_end_token_id"),
)

WIDE = "random-152k"
"""The name of a base with 106 million random weights, not counting the embeddings of its 152,000 tokens."""

WIDE_SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "layer_types": ["full_attention"] * 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}


def save_published(name: str, folder: Path) -> HubBase:
    """Write the base's shape with random bf16 weights to `folder`, and return its entry.

    Raises `ModelError` for a base that is not in `HUB_BASES`, or whose family is not in `PROCESSORS`.
    """
    if name not in HUB_BASES:
        raise ModelError(f"base {name}", "its shape is not known", nearest(name, HUB_BASES))
    base = HUB_BASES[name]
    if base.model_type not in PROCESSORS:
        known = ", ".join(other for other, entry in HUB_BASES.items() if entry.model_type in PROCESSORS)
        raise ModelError(f"base {name}", "its processor is not known here", f"choose one of {known}")
    family = TINY[base.model_type]
    tokenizer = build_tokenizer(family.words, family.template)
    config, tiny = base.config(), family.config(tokenizer)
    for token in TOKEN_IDS:
        if hasattr(tiny, token):
            setattr(config, token, getattr(tiny, token))
    for token, number in token_ids(tokenizer).items():
        setattr(config.get_text_config(), token, number)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    save(model, family, tokenizer, folder, PROCESSORS[base.model_type])
    return base


@contextmanager
def benchmark_base(name: str) -> Iterator[str]:
    """Yield the name or folder of a base; `WIDE` is made in a temporary folder and removed afterwards."""
    if name != WIDE:
        yield name
        return
    with TemporaryDirectory() as folder:
        _save_wide(Path(folder))
        yield folder


def _save_wide(folder: Path) -> None:
    """Write a language model with SmolLM2-135M's shape, but Qwen's vocabulary size, to `folder`."""
    family = TINY["qwen3"]
    tokenizer = build_tokenizer(family.words, family.template)
    config = family.config(tokenizer)
    config.update(WIDE_SHAPE)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    save(model, family, tokenizer, folder)


def _qwen3_vl(tokenizer: Any) -> Any:
    images = Qwen2VLImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    videos = Qwen3VLVideoProcessor(patch_size=16)
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)


def _llava_onevision(tokenizer: Any) -> Any:
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(image_grid_pinpoints=LlavaOnevisionConfig().image_grid_pinpoints),
        tokenizer,
        LlavaOnevisionVideoProcessor(),
        num_image_tokens=729,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


PROCESSORS: dict[str, Callable[[Any], Any]] = {"qwen3_vl": _qwen3_vl, "llava_onevision": _llava_onevision}
