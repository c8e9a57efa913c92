"""Load a base: any image-text-to-text model, or a causal language model for text tasks."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig, GenerationConfig
from transformers.utils import cached_file
from transformers.utils.logging import disable_progress_bar

from vlm_ft.answers.box_format import GRID, BoxFormat
from vlm_ft.bases.assemble import FACTS
from vlm_ft.bases.attention import attend_by_products
from vlm_ft.bases.base_ref import BaseRef
from vlm_ft.bases.families import Family
from vlm_ft.bases.fp32 import see_in_fp32
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.reader import Reader, load_error, open_reader
from vlm_ft.errors import ModelError

SAMPLE = 65_536  # bytes read at each sampled position of a weight file

Quantize = Literal["nf4", "int8"]


@dataclass(frozen=True)
class Base:
    """A loaded model, its reader and its identity. `projector_untrained`: its projector has random weights."""

    model: Any
    reader: Reader
    ref: BaseRef
    projector_untrained: bool = False

    @property
    def family(self) -> Family:
        return self.reader.family

    @property
    def boxes(self) -> BoxFormat:
        """How the base writes boxes: in its family's convention, unless its projector is untrained."""
        return GRID if self.projector_untrained else self.family.boxes

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the language model's weights; a tower may have another one."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @property
    def quantized(self) -> bool:
        return bool(getattr(self.model, "is_quantized", False))


def process_device() -> torch.device:
    """The GPU of this process (`LOCAL_RANK` under accelerate launch), or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def load_base(
    name: str,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    quantize: Quantize | None = None,
    limits: Limits | None = None,
) -> Base:
    """Load by Hub name, local folder, or ``compact``.

    A `dtype` of None means bf16 on a GPU and fp32 on a CPU. Raises `ModelError` if the base cannot be loaded, belongs
    to an unknown family, or cannot be quantized on this machine.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()
    reader = open_reader(name, revision=revision, limits=limits)
    device = process_device()
    options: dict[str, Any] = {
        "revision": revision,
        "dtype": dtype or ("bfloat16" if device.type == "cuda" else "float32"),
        "attn_implementation": attention,
        "quantization_config": quantization(quantize, reader.family),
        "device_map": {"": device} if quantize or device.type == "cuda" else None,
    }
    loader = AutoModelForImageTextToText if reader.sees else AutoModelForCausalLM
    try:
        model = loader.from_pretrained(reader.place, **{key: value for key, value in options.items() if value})
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise load_error(name, error) from error
    _keep_unpacked(model)
    see_in_fp32(model, reader.family)
    attends = attend_by_products(model)
    reader = replace(reader, reuses_prefix=reader.reuses_prefix and attends)
    model.eval()
    model.generation_config = _special_tokens_only(model.generation_config)
    ref = BaseRef(
        name=name,
        revision=revision,
        fingerprint=fingerprint(reader.place, revision),
        model_type=str(model.config.model_type),
        kind="vision" if reader.sees else "text",
    )
    return Base(model, reader, ref, _projector_untrained(reader.place))


def _keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on a CPU at the first evaluation.

    Products with repacked weights have no gradient, and fail for layers narrower than a block.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _special_tokens_only(published: GenerationConfig) -> GenerationConfig:
    """Keep only the special tokens: a published penalty or temperature would change constrained decoding."""
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(published, name) for name in tokens})


def _projector_untrained(place: str) -> bool:
    file = Path(place) / FACTS
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("projector") == "untrained"


def quantization(quantize: Quantize | None, family: Family) -> Any:
    """The bitsandbytes settings for nf4 (with double quantization, Dettmers et al. 2023) or int8.

    The projector is not quantized: it is small, and may be trained in full.
    """
    if quantize is None:
        return None
    kept = [*family.projector, "lm_head"]  # matched against the start of a module's full name
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=kept,
    )


def fingerprint(place: str, revision: str | None = None) -> str:
    """A hash of the weight files: the name, size and header of each, and samples at three positions.

    It does not depend on the dtype or quantization of the loaded model, and reads less than a megabyte per file. Raises
    `ModelError` for a base without safetensors files.
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
    """The safetensors files of a base. Raises `ModelError` if it has none: all such bases would look the same."""

    def published(name: str) -> str | None:
        file: str | None = cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        return file

    if Path(place).is_dir():
        files = sorted(Path(place).glob("*.safetensors"))
    elif index := published("model.safetensors.index.json"):
        shards = sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
        files = [Path(index).parent / shard for shard in shards]
    else:
        files = [Path(file) for file in (published("model.safetensors"),) if file]
    if not files:
        raise ModelError(f"base {place}", "has no safetensors files", "convert it with its save_pretrained")
    return files
