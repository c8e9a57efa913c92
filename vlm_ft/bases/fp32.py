"""The parts of a model that compute in fp32, also under bf16 autocast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from vlm_ft.bases.families import Family

SDPA, NAME = "sdpa", "sdpa_in_fp32"


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_fp32(model: Any) -> None:
    """Let the language model attend in fp32, if it uses PyTorch's attention; meant for training in bf16 on a CPU.

    The backward pass of PyTorch's attention takes longer in bf16 than in fp32 there: 74 against 32 ms for 16 rows of
    110 queries and 240 keys, nine heads of 64, on two cores of an Intel Xeon with AMX. With it, a training step of
    `unfair_terms_tsv` takes 2.7 instead of 3.7 s, and one of `steel_surface_voc` 2.05 instead of 2.29 s.
    """
    text = model.config.get_text_config()
    if text._attn_implementation == SDPA:
        model.set_attn_implementation(NAME if text is model.config else {"text_config": NAME})


def see_in_fp32(model: Any, family: Family) -> None:
    """Let a convolutional tower compute in fp32, with its weights in fp32.

    In bf16, its rounding errors add up from layer to layer: EfficientNet-Lite0's features were off by 11 % for photos
    of waste and by 19 % for X-rays, which differ from each other in little else. The tower is a small part of the cost.
    """
    if not family.convolutional_tower:
        return
    assert family.vision is not None
    tower = model.get_submodule(family.vision).float()
    without_autocast = torch.autocast(model.device.type, enabled=False)

    def enter(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        without_autocast.__enter__()  # type: ignore[no-untyped-call]
        return tuple(map(_in_fp32, inputs)), {name: _in_fp32(value) for name, value in named.items()}

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
        without_autocast.__exit__(None, None, None)
        if outputs is not None and not torch.is_autocast_enabled(model.device.type):
            outputs.last_hidden_state = outputs.last_hidden_state.to(model.get_input_embeddings().weight.dtype)

    tower.register_forward_pre_hook(enter, with_kwargs=True)
    tower.register_forward_hook(leave, always_call=True)


def _in_fp32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
