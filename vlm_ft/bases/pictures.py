"""Attention over equal pictures in one product: off a GPU, transformers takes the Qwen towers' pictures one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "equal_pictures"


def attend_together(tower: Any) -> None:
    """Let a Qwen tower attend to all pictures of a batch at once where they are of one size; same values.

    Pictures of different sizes are taken one by one, as before.
    """
    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    tower.config._attn_implementation = NAME
    for module in tower.modules():
        if hasattr(module, "qkv"):
            module.register_forward_pre_hook(_joined, with_kwargs=True)


def _joined(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`cu_seqlens` (pictures + 1,) of equal pictures becomes that of one sequence, which `attention` parts again."""
    bounds = kwargs["cu_seqlens"]
    lengths = bounds.diff()
    equal = bool((lengths == lengths[0]).all())
    module.pictures = len(lengths) if equal else 1
    return args, {**kwargs, "cu_seqlens": bounds[[0, -1]] if equal else bounds}


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """(1, heads, pictures * patches, width) each to (1, pictures * patches, heads, width), within each picture."""
    heads, total, width = query.shape[1:]
    each = total // module.pictures
    q, k, v = (tensor.reshape(heads * module.pictures, each, width) for tensor in (query, key, value))
    weights = torch.softmax(torch.bmm(q * scaling, k.transpose(1, 2)), -1)
    weights = nn.functional.dropout(weights, dropout, module.training).to(v.dtype)
    return torch.bmm(weights, v).view(1, heads, total, width).transpose(1, 2), None
