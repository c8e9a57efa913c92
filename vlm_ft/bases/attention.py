"""Attention in single precision, for training in bf16 on a CPU.

On a CPU, the backward pass of PyTorch's attention is slower in bf16 than in fp32: 74 ms against 32 ms for 16 rows of
110 queries and 240 keys, nine heads of 64, on two cores of an Intel Xeon with AMX. In fp32, a training step of
`unfair_terms_tsv` takes 2.7 s instead of 3.7 s, and one of `steel_surface_voc` 2.05 s instead of 2.29 s.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

SDPA, NAME = "sdpa", "sdpa_in_fp32"


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_fp32(model: Any) -> None:
    """Make the language model attend in fp32, if it uses PyTorch's attention."""
    text = model.config.get_text_config()
    if text._attn_implementation == SDPA:
        model.set_attn_implementation(NAME if text is model.config else {"text_config": NAME})
