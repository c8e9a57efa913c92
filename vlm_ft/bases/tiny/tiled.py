"""Tiny models that cut an image into square tiles and shuffle pixels: SmolVLM, Idefics3, InternVL."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import (
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlamaConfig,
    Qwen2Config,
    Qwen2Tokenizer,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from vlm_ft.bases.tiny.family import GRID, PATCH, SIDE, VISION_SIZES, TinyFamily, text_sizes
from vlm_ft.bases.tiny.templates import INTERNVL, published
from vlm_ft.bases.tiny.tokenizer import Vocabulary

SHUFFLE = 2  # patches along a side that become one visual token
TILE_TOKENS = (GRID // SHUFFLE) ** 2
MAX_TILES = 4  # of an image, InternVL

_SIZES = {
    "size": {"longest_edge": 2 * SIDE},
    "max_image_size": {"longest_edge": SIDE},  # the side of a tile
    "do_image_splitting": True,
}
_PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
_IMAGE_TOKENS = ("<fake_token_around_image>", "<image>", "<global-img>", *_PLACES)

SMOLVLM_WORDS = Vocabulary(
    eos="<end_of_utterance>",
    pad="<|im_end|>",
    bos="<|im_start|>",
    others=_IMAGE_TOKENS,
)
IDEFICS3_WORDS = Vocabulary(
    eos="<|end_of_text|>",
    pad="<|reserved_special_token_0|>",
    bos="<|begin_of_text|>",
    others=(*_IMAGE_TOKENS, "<end_of_utterance>"),
    adds_bos=True,
)
INTERNVL_WORDS = Vocabulary(
    eos="<|im_end|>",
    pad="<|endoftext|>",
    others=("<|im_start|>",),
    named={
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    kind=Qwen2Tokenizer,
)


def _with_llama(kind: type, tokenizer: Any) -> Any:
    return kind(
        vision_config=dict(VISION_SIZES),
        text_config=LlamaConfig(**text_sizes(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=SHUFFLE,
        pad_token_id=tokenizer.pad_token_id,
    )


def _internvl(tokenizer: Any) -> Any:
    square = {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]}
    return InternVLConfig(
        vision_config={**VISION_SIZES, **square},
        text_config=Qwen2Config(**text_sizes(tokenizer), tie_word_embeddings=True),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=TILE_TOKENS,
        downsample_ratio=1 / SHUFFLE,
        tie_word_embeddings=True,
    )


def _smolvlm_processor(tokenizer: Any) -> Any:
    return SmolVLMProcessor(
        SmolVLMImageProcessor(**_SIZES),
        tokenizer,
        SmolVLMVideoProcessor(**_SIZES),
        image_seq_len=TILE_TOKENS,
        chat_template=tokenizer.chat_template,
    )


def _idefics3_processor(tokenizer: Any) -> Any:
    images = Idefics3ImageProcessor(**_SIZES)
    return Idefics3Processor(images, tokenizer, image_seq_len=TILE_TOKENS, chat_template=tokenizer.chat_template)


def _internvl_processor(tokenizer: Any) -> Any:
    square = {"height": SIDE, "width": SIDE}
    return InternVLProcessor(
        GotOcr2ImageProcessor(size=square, crop_to_patches=True, min_patches=1, max_patches=MAX_TILES),
        tokenizer,
        InternVLVideoProcessor(size=square),
        image_seq_length=TILE_TOKENS,
        chat_template=tokenizer.chat_template,
    )


_TURN = ("<end_of_utterance>",)

TILED = {
    "smolvlm": TinyFamily(
        SMOLVLM_WORDS, published("smolvlm"), partial(_with_llama, SmolVLMConfig), _smolvlm_processor, _TURN
    ),
    "idefics3": TinyFamily(
        IDEFICS3_WORDS,
        published("idefics3"),
        partial(_with_llama, Idefics3Config),
        _idefics3_processor,
        ("<|end_of_text|>", *_TURN),
    ),
    "internvl": TinyFamily(INTERNVL_WORDS, INTERNVL, _internvl, _internvl_processor, ("<|im_end|>", "<|endoftext|>")),
}
