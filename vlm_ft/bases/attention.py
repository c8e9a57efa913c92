"""Attention of the language model: behind a prefix that rows share, and fast for short rows in bf16 on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from vlm_ft.errors import ModelError

SDPA, NAME = "sdpa", "products"
MOST = 2**25  # attention weights of a layer that are held at once: 64 MiB in bf16

Layers = Sequence[tuple[Tensor, Tensor]]
"""The keys and values of each layer, (1, groups, tokens, width) each."""


def attend_by_products(model: Any) -> bool:
    """Let the language model attend as below, if it uses PyTorch's attention; returns whether it does.

    PyTorch's kernel is made for long sequences. For 16 rows of 70 queries and 166 keys, nine heads of 64 and three of
    keys, forward and backward pass take 14 ms this way, and 42 ms with the kernel in fp32, which is faster than in bf16
    (one core of an Intel Xeon with AMX). A training step of `faa_events_csv` takes 3.0 instead of 3.5 s of that core.
    """
    text = model.config.get_text_config()
    if text._attn_implementation == SDPA:
        model.set_attn_implementation(NAME if text is model.config else {"text_config": NAME})
    return bool(text._attn_implementation == NAME)


@dataclass(frozen=True)
class _Prefixes:
    """The rows of a batch by prefix, (rows, its layers) each, and the layers of the model that attended to them."""

    parts: Sequence[tuple[list[int], Layers | None]]
    used: set[int] = field(default_factory=set)


_PREFIXES: ContextVar[_Prefixes | None] = ContextVar("prefixes", default=None)


@contextmanager
def behind(rows: Sequence[Layers | None]) -> Iterator[None]:
    """Let the rows of a forward pass attend to a prefix each; masks and positions are those of their own tokens.

    Rows with the same prefix are multiplied with its keys together, and none has a copy of them (Juravsky et al. 2024,
    Hydragen, section 3.1). Raises `ModelError` if a layer of the model did not attend to it.
    """
    different = {id(layers): layers for layers in rows}
    prefixes = _Prefixes([([row for row, own in enumerate(rows) if own is each], each) for each in different.values()])
    given = [layers for layers in different.values() if layers is not None]
    token = _PREFIXES.set(prefixes if given else None)
    try:
        yield
    finally:
        _PREFIXES.reset(token)
    if given and len(prefixes.used) < len(given[0]):
        raise ModelError("base", "some of its layers cannot attend to a shared prefix", "report its family")


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend from `query` (rows, heads, queries, width) to `key` and `value` (rows, groups, keys, width).

    `attention_mask` (rows, 1, queries, keys) is True where a query attends to a key; None: to all up to its own.
    Returns (rows, queries, heads, width).
    """
    prefixes = _PREFIXES.get()
    if prefixes is None:
        return _attend_behind(module, None, query, key, value, attention_mask, **options), None
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    prefixes.used.add(layer)
    if attention_mask is None:
        square = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        attention_mask = square.tril(key.shape[2] - query.shape[2]).expand(len(query), 1, -1, -1)
    found = list[Tensor]()
    for rows, layers in prefixes.parts:
        at = slice(None) if len(prefixes.parts) == 1 else rows
        own = query[at], key[at], value[at], attention_mask[at]
        found.append(_attend_behind(module, layers[layer] if layers else None, *own, **options))
    if len(found) == 1:
        return found[0], None
    order = torch.tensor([row for rows, _ in prefixes.parts for row in rows], device=query.device).argsort()
    return torch.cat(found)[order], None


def _attend_behind(
    module: nn.Module,
    prefix: tuple[Tensor, Tensor] | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> Tensor:
    """Like `_attend`, for rows with the same prefix, of which these are the keys and values in this layer.

    PyTorch's kernel, on a CPU in fp32, serves what products do not speed up, and what has too many attention weights to
    hold.
    """
    short = query.is_cpu and torch.is_autocast_enabled("cpu")
    rows, heads, queries, width = query.shape
    size = rows * heads * queries * (key.shape[2] + (prefix[0].shape[2] if prefix else 0))
    with torch.autocast("cpu", enabled=False):
        if mask is not None and (prefix or short) and not dropout and size <= MOST:
            dtype = torch.bfloat16 if short and torch.is_grad_enabled() else query.dtype
            scaled = query * (width**-0.5 if scaling is None else scaling)
            output = _products(scaled.to(dtype), key.to(dtype), value.to(dtype), mask, prefix)
        else:
            if mask is not None and prefix:
                key, value = (
                    torch.cat([ahead.to(own).expand(rows, -1, -1, -1), own], 2)
                    for ahead, own in zip(prefix, (key, value), strict=True)
                )
                mask = functional.pad(mask, (key.shape[2] - mask.shape[3], 0), value=True)
            exact = (query.float(), key.float(), value.float()) if short else (query, key, value)
            output, _ = sdpa_attention_forward(module, *exact, mask, dropout=dropout, scaling=scaling, **options)
    return output.to(query.dtype)


def _products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, prefix: tuple[Tensor, Tensor] | None) -> Tensor:
    """The products and the softmax between them; `query` is scaled."""
    rows, heads, queries, width = query.shape
    groups, keys = key.shape[1:3]
    grouped = query.reshape(rows, groups, -1, width)  # heads of a group share its keys
    bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
    bias = bias.masked_fill(~mask, torch.finfo(query.dtype).min)[:, None]
    scores = ((grouped @ key.mT).view(rows, groups, -1, queries, keys) + bias).flatten(2, 3)
    if prefix is None:
        output = scores.softmax(-1) @ value  # the softmax is summed in fp32, whatever the dtype
    else:
        ahead = _together(grouped, prefix[0].to(query).mT)
        before, own = torch.split(torch.cat([ahead, scores], -1).softmax(-1), [ahead.shape[3], keys], -1)
        output = _together(before, prefix[1].to(query)) + own @ value
    return output.reshape(rows, heads, queries, width).transpose(1, 2)


def _together(left: Tensor, right: Tensor) -> Tensor:
    """The product of (rows, groups, queries, n) with (1, groups, n, m), in which all rows form one matrix."""
    rows, groups, queries, _ = left.shape
    product = left.transpose(0, 1).flatten(1, 2) @ right[0]
    return product.view(groups, rows, queries, -1).transpose(0, 1)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
