"""Tiny Qwen-VL models: images of any shape, in patches that are merged in blocks of two by two."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5Tokenizer,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from vlm_ft.bases.tiny.family import TinyFamily, text_sizes
from vlm_ft.bases.tiny.templates import published
from vlm_ft.bases.tiny.tokenizer import Vocabulary

STOPS = ("<|im_end|>", "<|endoftext|>")
_SPECIALS = (
    *("<|im_start|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"),
    *("<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
WORDS = Vocabulary(eos="<|im_end|>", pad="<|endoftext|>", others=_SPECIALS, kind=Qwen2Tokenizer)
WORDS_3_5 = Vocabulary(eos="<|im_end|>", pad="<|endoftext|>", others=_SPECIALS, kind=Qwen3_5Tokenizer)

_VISION = {"depth": 2, "num_heads": 2, "hidden_act": "gelu_pytorch_tanh"}
_VISION_3 = {**_VISION, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "patch_size": 16}


def _token_ids(tokenizer: Any) -> dict[str, int]:
    names = ("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>")
    edges = ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>")
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in (*names, *edges)}


def _text(tokenizer: Any) -> dict[str, Any]:
    """Qwen's configurations name the padding token as `bos_token_id`, but no text is encoded with it."""
    return text_sizes(tokenizer) | {"bos_token_id": tokenizer.pad_token_id}


def _rope(section: list[int], **more: Any) -> dict[str, Any]:
    """``section`` divides half of the rotary width among time, height and width."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section, **more}}


def _qwen2_vl(tokenizer: Any) -> Any:
    return Qwen2VLConfig(
        text_config=_text(tokenizer) | _rope([2, 3, 3]),
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )


def _qwen2_5_vl(tokenizer: Any) -> Any:
    sizes = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    return Qwen2_5_VLConfig(
        text_config=_text(tokenizer) | _rope([2, 3, 3]),
        vision_config=sizes | {"window_size": 112, "fullatt_block_indexes": [1]},
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )


def _qwen3_vl(tokenizer: Any) -> Any:
    return Qwen3VLConfig(
        text_config=_text(tokenizer) | {"head_dim": 16} | _rope([4, 2, 2], mrope_interleaved=True),
        vision_config=_VISION_3 | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )


def _qwen3_5(tokenizer: Any) -> Any:
    rope = _rope([2, 1, 1], mrope_interleaved=True, partial_rotary_factor=0.25)  # 32 x 0.25 / 2 = 4
    linear = {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
    linear |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    layers = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 32}
    return Qwen3_5Config(
        text_config=_text(tokenizer) | rope | linear | layers,
        vision_config=_VISION_3 | {"num_position_embeddings": 64},
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )


def _processor(kind: type, video: type, patch: int, mean: float | None, tokenizer: Any) -> Any:
    """``mean`` is the pixel mean and deviation of every channel, or None for those of CLIP."""
    pixels = {} if mean is None else {"image_mean": [mean] * 3, "image_std": [mean] * 3}
    cell = (2 * patch) ** 2  # pixels of one visual token
    images = Qwen2VLImageProcessor(
        patch_size=patch, size={"shortest_edge": 4 * cell, "longest_edge": 64 * cell}, **pixels
    )
    videos = video(patch_size=patch, **pixels)
    return kind(images, tokenizer, videos, chat_template=tokenizer.chat_template)


def _qwen3(tokenizer: Any) -> Any:
    return Qwen3Config(**_text(tokenizer), head_dim=16, tie_word_embeddings=True)


_processor_2 = partial(_processor, Qwen2VLProcessor, Qwen2VLVideoProcessor, 14, None)
_processor_2_5 = partial(_processor, Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, 14, None)
_processor_3 = partial(_processor, Qwen3VLProcessor, Qwen3VLVideoProcessor, 16, 0.5)

QWEN = {
    "qwen2_vl": TinyFamily(WORDS, published("qwen2_5_vl"), _qwen2_vl, _processor_2, STOPS),
    "qwen2_5_vl": TinyFamily(WORDS, published("qwen2_5_vl"), _qwen2_5_vl, _processor_2_5, STOPS),
    "qwen3_vl": TinyFamily(WORDS, published("qwen3_vl"), _qwen3_vl, _processor_3, STOPS),
    "qwen3_5": TinyFamily(WORDS_3_5, published("qwen3_5_nothink"), _qwen3_5, _processor_3, STOPS),
    "qwen3": TinyFamily(WORDS, published("qwen3"), _qwen3, None, STOPS),
}
