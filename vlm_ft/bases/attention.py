"""Attention of the language model: behind a prefix that rows share, and fast for short rows in bf16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    """The prefixes of the rows of a batch.

    Rows with the same one are multiplied with its keys together, and none has a copy of them (Juravsky et al. 2024,
    Hydragen, section 3.1). `parts`: the rows of each prefix, and its layers; `length`: of the longest; `used`: the
    layers that attended to them.
    """

    parts: Sequence[tuple[list[int], Layers | None]]
    length: int
    used: set[int] = field(default_factory=set)

    def scores(self, layer: int, queries: Tensor) -> Tensor:
        """The products of queries (rows, groups, queries, width) with the keys: (rows, groups, queries, length)."""
        self.used.add(layer)

        def of_part(own: Tensor, keys: Tensor, missing: int) -> Tensor:
            return functional.pad(own @ keys.mT, (missing, 0), value=torch.finfo(own.dtype).min)

        return self._by_part(of_part, queries, [layers[layer][0] if layers else None for _, layers in self.parts])

    def weighted(self, layer: int, weights: Tensor) -> Tensor:
        """The values weighted by (rows, groups, queries, length): (rows, groups, queries, width)."""

        def of_part(own: Tensor, values: Tensor, missing: int) -> Tensor:
            return own[..., missing:] @ values

        return self._by_part(of_part, weights, [layers[layer][1] if layers else None for _, layers in self.parts])

    def _by_part(
        self, product: Callable[[Tensor, Tensor, int], Tensor], left: Tensor, right: Sequence[Tensor | None]
    ) -> Tensor:
        """Products of (rows, groups, queries, ...) with each part's (1, groups, tokens, width), for all of its rows."""
        width = next(tensor.shape[3] for tensor in right if tensor is not None)
        found = []
        for (rows, _), tensor in zip(self.parts, right, strict=True):
            own = (left if len(rows) == len(left) else left[rows]).transpose(0, 1).flatten(1, 2)
            kept = own.new_zeros(len(own), 0, width) if tensor is None else tensor[0].to(own)
            of_rows = product(own, kept, self.length - kept.shape[1])
            found.append(of_rows.view(len(own), len(rows), -1, of_rows.shape[2]).transpose(0, 1))
        order = torch.tensor([row for rows, _ in self.parts for row in rows], device=left.device).argsort()
        return found[0] if len(found) == 1 else torch.cat(found)[order]

    def joined(self, layer: int, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (rows, groups, tokens, width) and a mask (rows, 1, queries, tokens), with the prefixes'."""
        self.used.add(layer)
        count, groups, _, width = key.shape
        ahead = [key.new_zeros(count, groups, self.length, width) for _ in range(2)]
        seen = mask.new_zeros(count, 1, mask.shape[2], self.length)
        for rows, layers in self.parts:
            if layers:
                length = layers[layer][0].shape[2]
                seen[rows, :, :, -length:] = True
                for whole, part in zip(ahead, layers[layer], strict=True):
                    whole[rows, :, -length:] = part.to(whole)
        return torch.cat([ahead[0], key], 2), torch.cat([ahead[1], value], 2), torch.cat([seen, mask], 3)


_PREFIXES: ContextVar[_Prefixes | None] = ContextVar("prefixes", default=None)


@contextmanager
def behind(rows: Sequence[Layers | None]) -> Iterator[None]:
    """Let the rows of a forward pass attend to a prefix each; masks and positions are those of their own tokens.

    Raises `ModelError` if a layer of the model did not attend to it.
    """
    different = {id(layers): layers for layers in rows}
    parts = [([row for row, own in enumerate(rows) if own is layers], layers) for layers in different.values()]
    given = [layers for layers in different.values() if layers is not None]
    prefixes = _Prefixes(parts, max((layers[0][0].shape[2] for layers in given), default=0))
    token = _PREFIXES.set(prefixes if given else None)
    try:
        yield
    finally:
        _PREFIXES.reset(token)
    if given and len(prefixes.used) < len(given[0]):
        raise ModelError("base", "some of its layers cannot attend to a shared prefix", "report its family")


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend from `query` (rows, heads, queries, width) to `key` and `value` (rows, groups, keys, width).

    `attention_mask` (rows, 1, queries, keys) is True where a query attends to a key; None: to all up to its own.
    Returns (rows, queries, heads, width). PyTorch's kernel, on a CPU in fp32, serves what products do not speed up, and
    what has too many attention weights to hold.
    """
    prefixes, short = _PREFIXES.get(), query.is_cpu and torch.is_autocast_enabled("cpu")
    rows, heads, queries, _ = query.shape
    layer = int(getattr(module, "layer_idx", 0))
    size = rows * heads * queries * (key.shape[2] + (prefixes.length if prefixes else 0))
    if attention_mask is None and prefixes:
        attention_mask = torch.ones(queries, key.shape[2], dtype=torch.bool, device=query.device)
        attention_mask = attention_mask.tril(key.shape[2] - queries).expand(rows, 1, -1, -1)
    with torch.autocast("cpu", enabled=False):
        if attention_mask is not None and (prefixes or short) and not dropout and size <= MOST:
            dtype = torch.bfloat16 if short and torch.is_grad_enabled() else query.dtype
            scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
            given = scaled.to(dtype), key.to(dtype), value.to(dtype)
            output = _products(*given, attention_mask, prefixes, layer)
        else:
            if attention_mask is not None and prefixes:
                key, value, attention_mask = prefixes.joined(layer, key, value, attention_mask)
            exact = (query.float(), key.float(), value.float()) if short else (query, key, value)
            output, _ = sdpa_attention_forward(
                module, *exact, attention_mask, dropout=dropout, scaling=scaling, **options
            )
    return output.to(query.dtype), None


def _products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, prefixes: _Prefixes | None, layer: int
) -> Tensor:
    rows, heads, queries, width = query.shape
    groups, keys = key.shape[1:3]
    grouped = query.reshape(rows, groups, -1, width)  # heads of a group share its keys
    bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
    bias = bias.masked_fill(~mask, torch.finfo(query.dtype).min)[:, None]
    scores = ((grouped @ key.mT).view(rows, groups, -1, queries, keys) + bias).flatten(2, 3)
    if prefixes is None:
        output = scores.softmax(-1) @ value  # the softmax is summed in fp32, whatever the dtype
    else:
        weights = torch.cat([prefixes.scores(layer, grouped), scores], -1).softmax(-1)
        before, own = torch.split(weights, [prefixes.length, keys], -1)
        output = prefixes.weighted(layer, before) + own @ value
    return output.reshape(rows, heads, queries, width).transpose(1, 2)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
