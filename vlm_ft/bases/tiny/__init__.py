"""Random models of every family, with 0.1 to 0.6 million parameters, for tests and dry runs.

    save_tiny("qwen3_vl", folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)

They have their families' architectures, special tokens, chat templates and image processing, at small sizes, and are
built without a download. Their answers are noise.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from vlm_ft.bases.tiny.family import TinyFamily, save
from vlm_ft.bases.tiny.gemma import GEMMA
from vlm_ft.bases.tiny.llama import LLAMA
from vlm_ft.bases.tiny.llava import LLAVA
from vlm_ft.bases.tiny.qwen import QWEN
from vlm_ft.bases.tiny.tiled import TILED
from vlm_ft.bases.tiny.tokenizer import build_tokenizer
from vlm_ft.errors import ModelError, nearest

__all__ = ["TINY", "TinyFamily", "save_tiny"]

TINY: dict[str, TinyFamily] = {**QWEN, **LLAVA, **TILED, **GEMMA, **LLAMA}


def save_tiny(name: str, folder: Path) -> Path:
    """Write the tiny model of family ``name`` to ``folder``, and return ``folder``.

    The folder holds float32 weights, configuration, generation settings, tokenizer and, for a vision family, its
    processor; the weights are always the same. The caller's random state does not change. Raises `ModelError` for a
    name that is not in ``TINY``.
    """
    if name not in TINY:
        raise ModelError("", f"no tiny model {name!r}", nearest(name, TINY))
    family = TINY[name]
    tokenizer = build_tokenizer(family.words, family.template)
    auto = AutoModelForCausalLM if family.processor is None else AutoModelForImageTextToText
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(family.config(tokenizer), dtype=torch.float32)
        _let_images_through(model)
    save(model, family, tokenizer, folder, family.processor)
    return folder


def _let_images_through(model: torch.nn.Module) -> None:
    """Redraw weights that would block the image: matrices that start at zero (Gemma3), stacked convolutions at 0.02."""
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
        elif weight.ndim == 4 and "timm_model" in name:
            torch.nn.init.kaiming_normal_(weight)
