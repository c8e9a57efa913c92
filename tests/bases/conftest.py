"""Tiny models, each read once, with a copy for every test that asks for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from vlm_ft.bases.tiny import TINY


@dataclass(frozen=True)
class Loaded:
    """A tiny model read from ``folder``; ``processor`` is the tokenizer if the model takes no images."""

    folder: Path
    model: Any
    processor: Any

    @property
    def tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def sees(self) -> bool:
        return self.processor is not self.tokenizer

    def render(self, question: str, images: int = 1, system: str | None = None) -> str:
        """The prompt as text, with the family's image placeholders not yet expanded."""
        if self.processor.chat_template is None:
            return "<image>" * images + question
        turn = {"role": "user", "content": question}
        if self.sees:
            turn["content"] = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        turns = [turn]
        if system is not None:
            content = [{"type": "text", "text": system}] if self.sees else system
            turns = [{"role": "system", "content": content}, turn]
        return str(self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def encode(self, prompts: list[str], images: list[list[Image.Image]], **more: Any) -> dict[str, torch.Tensor]:
        """Model inputs of a batch, padded on the left; a BOS token in the template is not added again."""
        self.tokenizer.padding_side = "left"
        seen = {"images": images} if self.sees else {}
        own_bos = self.tokenizer.bos_token is not None and prompts[0].startswith(self.tokenizer.bos_token)
        batch = self.processor(
            text=prompts, **seen, add_special_tokens=not own_bos, padding=True, return_tensors="pt", **more
        )
        batch.pop("labels", None)
        return dict(batch)


def _load(folder: Path, sees: bool) -> Loaded:
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    reader = AutoProcessor if sees else AutoTokenizer
    return Loaded(folder, auto.from_pretrained(folder).eval(), reader.from_pretrained(folder))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Callable[[str], Path]) -> Callable[[str], Loaded]:
    """A tiny model by its name, read once; every call gives a copy, which is faster than reading it."""
    read = cache(lambda name: _load(tiny_folder(name), sees=TINY[name].processor is not None))
    return lambda name: copy.deepcopy(read(name))


@pytest.fixture(scope="session")
def noise() -> Callable[..., Image.Image]:
    """An image of random pixels: ``noise(width, height, seed)``."""

    def draw(width: int = 120, height: int = 80, seed: int = 0) -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return draw
