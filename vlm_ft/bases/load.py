"""Load a base: any image-text-to-text model, or a causal language model for text tasks."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.utils import cached_file
from transformers.utils.logging import disable_progress_bar

from vlm_ft.bases.base_ref import BaseRef
from vlm_ft.bases.compact import COMPACT, compact_folder
from vlm_ft.bases.families import Family, family_of, limit_pixels
from vlm_ft.bases.pictures import attend_together
from vlm_ft.errors import ModelError

SAMPLE = 65_536  # bytes read at each sampled place of a weight file

Quantize = Literal["nf4", "int8"]


@dataclass(frozen=True)
class Base:
    """A loaded model, what turns text and images into its tensors, and the facts about its family."""

    model: Any
    processor: Any
    family: Family
    ref: BaseRef
    image_tokens: int | None = None  # the most of one row; its photos are lowered to keep to it

    @property
    def tokenizer(self) -> Any:
        """The tokenizer inside the processor, or the processor itself for a text base."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def vision(self) -> bool:
        """Whether it takes images."""
        return self.ref.kind == "vision"

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def max_length(self) -> int:
        """The most tokens that a sequence may have."""
        return int(self.model.config.get_text_config().max_position_embeddings)


def load_base(
    name: str,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    quantize: Quantize | None = None,
    pixels: tuple[int, int] | None = None,
) -> Base:
    """Load by Hub name, local folder, or ``compact``.

    `dtype` None is bf16 on a GPU and fp32 on a CPU; `pixels` are the least and the most of one image. Raises
    `ModelError` where the base cannot be had, is of an unknown family, or cannot be quantized here.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()
    place = locate(name)
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError, HFValidationError) as error:
        raise _unavailable(name, error) from error
    family = family_of(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options: dict[str, Any] = {
        "revision": revision,
        "dtype": dtype or ("bfloat16" if device.type == "cuda" else "float32"),
        "attn_implementation": attention,
        "quantization_config": quantization(quantize),
        "device_map": {"": device} if quantize or device.type == "cuda" else None,
    }
    loader = AutoModelForImageTextToText if family.sees else AutoModelForCausalLM
    try:
        model = loader.from_pretrained(place, **{key: value for key, value in options.items() if value is not None})
        processor = (AutoProcessor if family.sees else AutoTokenizer).from_pretrained(place, revision=revision)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise _unavailable(name, error) from error
    if pixels is not None:
        limit_pixels(processor, family, *pixels, config=config)
    if family.tower_by_picture and device.type == "cpu" and attention is None:
        attend_together(model.model.visual)
    model.eval()
    ref = BaseRef(
        name=name,
        revision=revision,
        fingerprint=fingerprint(place, revision),
        model_type=config.model_type,
        kind="vision" if family.sees else "text",
    )
    base = Base(model, processor, family, ref)
    if base.tokenizer.pad_token_id is None:
        base.tokenizer.pad_token = base.tokenizer.eos_token
    return base


def locate(name: str) -> str:
    """The folder of the embedded `compact`, or the name itself. Raises `ModelError` where a local path is missing."""
    if name == COMPACT:
        return str(compact_folder())
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if looks_local:
        raise ModelError(f"base {name}", "no such folder", "give a model folder, a Hub name (owner/model) or 'compact'")
    return name


def quantization(quantize: Quantize | None) -> Any:
    """The bitsandbytes settings for nf4 (with double quantization, Dettmers et al. 2023) or int8."""
    if quantize is None:
        return None
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def fingerprint(place: str, revision: str | None = None) -> str:
    """A hash of the config and of the weight files: their names, sizes, headers and three sampled places each.

    Independent of the dtype or the quantization that the model is loaded in; reads under a megabyte a file.
    """
    digest = hashlib.sha256()
    for path in _weight_files(place, revision):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            for offset in sorted({0, max(0, size // 2), max(0, size - SAMPLE)}):
                file.seek(offset)
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def _weight_files(place: str, revision: str | None) -> list[Path]:
    folder = Path(place)
    if folder.is_dir():
        return sorted(folder.glob("*.safetensors"))
    index = cached_file(
        place, "model.safetensors.index.json", revision=revision, _raise_exceptions_for_missing_entries=False
    )
    if index is None:
        return [Path(str(cached_file(place, "model.safetensors", revision=revision)))]
    shards = sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
    return [Path(index).parent / shard for shard in shards]


def _unavailable(name: str, error: Exception) -> ModelError:
    reason = re.sub(r"\s+", " ", str(error)).strip()[:160]
    return ModelError(
        f"base {name}", f"cannot be loaded ({reason})", "check the name, the network, or give a local folder"
    )


@dataclass(frozen=True)
class PartSize:
    """Parameters of one part of a model."""

    part: str
    total: int
    trainable: int


def part_sizes(model: nn.Module, family: Family) -> list[PartSize]:
    """Parameters by part (language, projector, vision, other), all and trainable; the last row is the sum."""
    totals: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        part = _part(name.removeprefix("base_model.model."), family)
        quantized = getattr(parameter, "quant_state", None)
        count = int(torch.Size(quantized.shape).numel()) if quantized is not None else parameter.numel()
        entry = totals.setdefault(part, [0, 0])
        entry[0] += count
        entry[1] += count if parameter.requires_grad else 0
    rows = [PartSize(part, *counts) for part, counts in sorted(totals.items())]
    return [*rows, PartSize("all", sum(row.total for row in rows), sum(row.trainable for row in rows))]


def _part(name: str, family: Family) -> str:
    patterns = {"vision": family.tower, "projector": family.projector, "language": family.language}
    return next((word for word, pattern in patterns.items() if pattern and re.fullmatch(pattern, name)), "other")
