"""A tiny Llama: a text model with the special tokens and the chat template of Llama 3."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig

from vlm_ft.bases.tiny.family import TinyFamily, text_sizes
from vlm_ft.bases.tiny.templates import published
from vlm_ft.bases.tiny.tokenizer import Vocabulary

WORDS = Vocabulary(
    eos="<|eot_id|>",
    pad="<|finetune_right_pad_id|>",
    bos="<|begin_of_text|>",
    others=("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"),
    adds_bos=True,
)


def _llama(tokenizer: Any) -> Any:
    return LlamaConfig(**text_sizes(tokenizer), tie_word_embeddings=True)


LLAMA = {"llama": TinyFamily(WORDS, published("llama3"), _llama, None, ("<|end_of_text|>", "<|eot_id|>"))}
