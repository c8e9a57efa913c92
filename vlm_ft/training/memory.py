"""Estimate the GPU memory of a run from a base's published shape, before anything is downloaded.

The estimate is calculated, not measured. Weights, adapter and optimiser are exact to the element; activations follow
Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models, section 4.1, with fused
attention) under full recomputation: one hidden state per layer is kept, and the activations of one layer at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from vlm_ft.bases.families import Family, family_of
from vlm_ft.bases.hub import HUB_BASES, HubBase
from vlm_ft.bases.parts import PARTS, Part, Tuning, low_rank_modules, owner_of, part_of, resolve_tunings
from vlm_ft.recipe import AdapterSettings, Pixels
from vlm_ft.training.attach import trains_whole_model
from vlm_ft.training.rehearse import Lengths

BF16, FP32 = 2, 4  # bytes
NF4 = 4.127 / 8  # bytes per weight with double quantization (Dettmers et al. 2023, section 3)
ADAMW = 2 * FP32  # two moments
INSIDE_LAYER = 34  # bytes per token and hidden unit of one layer in 16 bits, without the attention scores
CUDA_CONTEXT = 800_000_000  # bytes of a process without tensors: context, kernels, workspaces


@dataclass(frozen=True)
class LongestRow:
    """The longest row of a run: its text tokens, its images, and the pixels of its largest image."""

    text_tokens: int
    images: int
    pixels: int

    @classmethod
    def of(cls, lengths: Lengths, limits: Pixels | None) -> LongestRow:
        """The longest row as seen by a base that can keep to the recipe's `pixels`."""
        pixels = min(max(lengths.most_pixels, limits.minimum), limits.maximum) if limits else lengths.most_pixels
        return cls(lengths.most_text_tokens, lengths.most_images, pixels)


@dataclass(frozen=True)
class Need:
    """The peak GPU memory of training one base, in bytes, with its weights in bf16 and in nf4.

    `nf4` is None if the language model or the tower is trained in full, and so cannot be quantized.
    """

    base: str
    tokens: int
    bf16: float
    nf4: float | None


def needs(adapter: AdapterSettings, row: LongestRow, batch_size: int) -> list[Need]:
    """The peak memory of every known Hub base that can read the row, at this batch size."""
    return [
        need(name, base, adapter, row, batch_size)
        for name, base in HUB_BASES.items()
        if (base.vision is not None) == bool(row.images)
    ]


def need(name: str, base: HubBase, adapter: AdapterSettings, row: LongestRow, batch_size: int) -> Need:
    """The peak memory of one base."""
    model = base.empty()
    family = family_of(model.config)
    tunings, _ = resolve_tunings(adapter.asked, model, family, projector_untrained=False, quantized=False)
    linear = sum(module.weight.numel() for module in _quantized(model))
    whole = sum(parameter.numel() for parameter in model.parameters())
    trainable = _trainable(model, family, tunings, adapter.rank)
    frozen = whole - trainable if trains_whole_model(tunings) else whole  # an adapter holds copies of full parts
    tokens = row.text_tokens + row.images * base.image_tokens(row.pixels)
    tower_tokens = batch_size * (tokens - row.text_tokens) if adapter.asked.get("vision", "frozen") != "frozen" else 0
    activations = _activations(base, tokens * batch_size) + _tower_activations(base, tower_tokens)
    rest = trainable * (FP32 + FP32 + ADAMW) + activations + CUDA_CONTEXT
    quantizable = "full" not in (tunings["language"], tunings["vision"])
    nf4 = linear * NF4 + (frozen - linear) * BF16 + rest if quantizable else None
    return Need(name, tokens, frozen * BF16 + rest, nf4)


def _activations(base: HubBase, tokens: int) -> float:
    text: dict[str, Any] = base.text
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    logits = tokens * text["vocab_size"] * (BF16 + FP32)  # upper bound: the head runs only on answers
    return float(tokens * hidden * (layers * BF16 + INSIDE_LAYER) + logits)


def _tower_activations(base: HubBase, image_tokens: int) -> float:
    """Bytes of a trained tower's activations; a frozen tower stores none for a backward pass."""
    if base.vision is None:
        return 0.0
    layers = base.vision.get("depth", base.vision.get("num_hidden_layers", 0))
    patches = image_tokens * base.patches_per_token
    return float(patches * base.vision["hidden_size"] * (layers * BF16 + INSIDE_LAYER))


def _quantized(model: nn.Module) -> list[nn.Linear]:
    """The layers that bitsandbytes quantizes: every linear layer but the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]


def _trainable(model: nn.Module, family: Family, tunings: Mapping[Part, Tuning], rank: int) -> int:
    """The number of trained weights: the adapter's matrices and the fully trained parts."""
    full = [part for part in PARTS if tunings[part] == "full"]
    part_trained_with = owner_of if trains_whole_model(tunings) else part_of
    whole = sum(p.numel() for name, p in model.named_parameters() if part_trained_with(name, family) in full)
    targets = [
        name for part in PARTS if tunings[part] in ("lora", "dora") for name in low_rank_modules(model, family, part)
    ]
    if not targets:
        return whole
    with_lora = inject_adapter_in_model(LoraConfig(r=rank, target_modules=targets), model, low_cpu_mem_usage=True)
    return int(whole + sum(p.numel() for name, p in with_lora.named_parameters() if "lora_" in name))
