"""Tiny LLaVA models: a CLIP, SigLIP or timm tower, a two-layer projector, a Llama or Qwen language model."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    FastVlmConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipImageProcessor,
    SiglipVisionConfig,
    TimmWrapperConfig,
)

from vlm_ft.bases.tiny.family import GRID, PATCH, SIDE, VISION_SIZES, TinyFamily, text_sizes
from vlm_ft.bases.tiny.templates import LLAVA_INTERLEAVE, LLAVA_ONEVISION, LLAVA_VICUNA
from vlm_ft.bases.tiny.tokenizer import Vocabulary

_SQUARE = {"height": SIDE, "width": SIDE}
TIMM_STRIDE = 32  # pixels per position of the tower's features
_TIMM_SQUARE = {"height": 2 * TIMM_STRIDE, "width": 2 * TIMM_STRIDE}
_GRIDS = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]  # pixels, height x width

VICUNA_WORDS = Vocabulary(eos="</s>", pad="<pad>", bos="<s>", others=("<image>",), adds_bos=True)
QWEN_WORDS = Vocabulary(
    eos="<|im_end|>", pad="<|endoftext|>", others=("<|im_start|>", "<image>", "<video>"), kind=Qwen2Tokenizer
)


def _image_id(tokenizer: Any) -> int:
    return int(tokenizer.convert_tokens_to_ids("<image>"))


def _clip_llama(tokenizer: Any) -> Any:
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION_SIZES, projection_dim=32),
        text_config=LlamaConfig(**text_sizes(tokenizer)),
        image_token_index=_image_id(tokenizer),
        image_seq_length=GRID**2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def _siglip_qwen2(tokenizer: Any) -> Any:
    return LlavaConfig(
        vision_config=SiglipVisionConfig(**VISION_SIZES, vision_use_head=False),
        text_config=Qwen2Config(**text_sizes(tokenizer), tie_word_embeddings=True),
        image_token_index=_image_id(tokenizer),
        image_seq_length=GRID**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )


def _onevision(tokenizer: Any) -> Any:
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION_SIZES, vision_use_head=False),
        text_config=Qwen2Config(**text_sizes(tokenizer), tie_word_embeddings=True),
        image_token_index=_image_id(tokenizer),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=_GRIDS,
        tie_word_embeddings=True,
    )


def _timm_llama(tokenizer: Any) -> Any:
    tower = TimmWrapperConfig(architecture="test_efficientnet", do_pooling=False)
    tower.hidden_size = 256
    return FastVlmConfig(
        vision_config=tower,
        text_config=LlamaConfig(**text_sizes(tokenizer), tie_word_embeddings=True),
        image_token_id=_image_id(tokenizer),
        tie_word_embeddings=True,
    )


def _processor(images: Any, tokenizer: Any, *, patch_size: int = PATCH, class_token: bool = False) -> Any:
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default" if class_token else "full",  # "default" drops the class token again
        num_additional_image_tokens=int(class_token),
        chat_template=tokenizer.chat_template,
    )


def _clip_processor(tokenizer: Any) -> Any:
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=_SQUARE)
    return _processor(images, tokenizer, class_token=True)


def _siglip_processor(tokenizer: Any) -> Any:
    return _processor(SiglipImageProcessor(size=_SQUARE), tokenizer)


def _timm_processor(tokenizer: Any) -> Any:
    images = CLIPImageProcessor(size=_TIMM_SQUARE, do_center_crop=False)
    return _processor(images, tokenizer, patch_size=TIMM_STRIDE)


def _onevision_processor(tokenizer: Any) -> Any:
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=_SQUARE, image_grid_pinpoints=_GRIDS),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=_SQUARE),
        num_image_tokens=GRID**2,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


_QWEN_STOPS = ("<|im_end|>",)

LLAVA = {
    "llava_clip_llama": TinyFamily(VICUNA_WORDS, LLAVA_VICUNA, _clip_llama, _clip_processor, ("</s>",)),
    "llava_siglip_qwen2": TinyFamily(QWEN_WORDS, LLAVA_INTERLEAVE, _siglip_qwen2, _siglip_processor, _QWEN_STOPS),
    "fast_vlm": TinyFamily(QWEN_WORDS, LLAVA_INTERLEAVE, _timm_llama, _timm_processor, _QWEN_STOPS),
    "llava_onevision": TinyFamily(QWEN_WORDS, LLAVA_ONEVISION, _onevision, _onevision_processor, _QWEN_STOPS),
}
