"""Tiny Gemma3 and PaliGemma models: a SigLIP tower with one fixed square."""

from __future__ import annotations

from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from vlm_ft.bases.tiny.family import GRID, SIDE, VISION_SIZES, TinyFamily, text_sizes
from vlm_ft.bases.tiny.templates import published
from vlm_ft.bases.tiny.tokenizer import Vocabulary

POOLED = (GRID // 2) ** 2  # visual tokens of an image, Gemma3
_SQUARE = {"height": SIDE, "width": SIDE}

GEMMA3_WORDS = Vocabulary(
    eos="<eos>",
    pad="<pad>",
    bos="<bos>",
    others=("<start_of_turn>", "<end_of_turn>"),
    named={"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    adds_bos=True,
)
_PLACES = tuple(f"<loc{place:04}>" for place in range(1024))  # the processor adds these, and the model embeds them
_SEGMENTS = tuple(f"<seg{code:03}>" for code in range(128))
PALIGEMMA_WORDS = Vocabulary(eos="<eos>", pad="<pad>", bos="<bos>", others=("<image>", *_PLACES, *_SEGMENTS))


def _gemma3(tokenizer: Any) -> Any:
    layers = {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
    return Gemma3Config(
        vision_config=SiglipVisionConfig(**VISION_SIZES, vision_use_head=False),
        text_config=Gemma3TextConfig(**text_sizes(tokenizer), **layers, query_pre_attn_scalar=16),
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        mm_tokens_per_image=POOLED,
    )


def _paligemma(tokenizer: Any) -> Any:
    return PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION_SIZES, vision_use_head=False),
        text_config=GemmaConfig(**text_sizes(tokenizer), head_dim=16),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vocab_size=len(tokenizer),
        projection_dim=64,
        hidden_size=64,
    )


def _gemma3_processor(tokenizer: Any) -> Any:
    images = Gemma3ImageProcessor(size=_SQUARE)
    return Gemma3Processor(images, tokenizer, image_seq_length=POOLED, chat_template=tokenizer.chat_template)


def _paligemma_processor(tokenizer: Any) -> Any:
    images = SiglipImageProcessor(size=_SQUARE)
    images.image_seq_length = GRID**2  # the processor reads it here
    return PaliGemmaProcessor(images, tokenizer)


GEMMA = {
    "gemma3": TinyFamily(GEMMA3_WORDS, published("gemma3"), _gemma3, _gemma3_processor, ("<eos>", "<end_of_turn>")),
    "paligemma": TinyFamily(PALIGEMMA_WORDS, None, _paligemma, _paligemma_processor, ("<eos>",)),
}
