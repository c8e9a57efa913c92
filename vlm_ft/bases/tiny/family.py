"""`TinyFamily`, and the sizes that all tiny families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from vlm_ft.bases.tiny.tokenizer import Vocabulary

SIDE = 56  # pixels: the side of a tower's fixed square
PATCH = 14  # pixels
GRID = SIDE // PATCH  # patches along a side

TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
VISION_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}


@dataclass(frozen=True)
class TinyFamily:
    """How a random model of one family is built.

    ``config(tokenizer)`` gives the model's configuration; ``processor(tokenizer)`` the processor, or None for a
    text model; ``template`` the chat template, or None for a family that publishes none; ``stops`` are
    the tokens at which ``generate`` stops.
    """

    words: Vocabulary
    template: str | None
    config: Callable[[Any], Any]
    processor: Callable[[Any], Any] | None
    stops: tuple[str, ...]


def token_ids(tokenizer: Any) -> dict[str, int]:
    """The token ids in a language model's configuration: padding, end, and beginning if there is one."""
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return ids if tokenizer.bos_token_id is None else ids | {"bos_token_id": tokenizer.bos_token_id}


def save(
    model: Any, family: TinyFamily, tokenizer: Any, folder: Path, processor: Callable[[Any], Any] | None = None
) -> None:
    """Write a model that stops at the family's tokens, and its processor or, without one, its tokenizer."""
    stops = [tokenizer.convert_tokens_to_ids(stop) for stop in family.stops]
    model.generation_config = GenerationConfig(**token_ids(tokenizer) | {"eos_token_id": stops})
    model.save_pretrained(folder)
    (tokenizer if processor is None else processor(tokenizer)).save_pretrained(folder)


def text_sizes(tokenizer: Any) -> dict[str, Any]:
    """The settings of a tiny language model with this vocabulary."""
    return {**TEXT_SIZES, "vocab_size": len(tokenizer), **token_ids(tokenizer)}
