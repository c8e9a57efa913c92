"""The weights of linear layers in bf16, beside those in fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import nn

from vlm_ft.bases.families import Family

MOST = 0.25
"""The most of the free memory that the copies may take."""


def linear_layers(model: Any, family: Family) -> list[nn.Linear]:
    """The linear layers with weights in fp32 that compute in bf16 under autocast."""
    exact = f"{family.vision}." if family.convolutional_tower else None  # see `see_in_fp32`
    return [
        module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module.weight.dtype == torch.float32 and not (exact and name.startswith(exact))
    ]


class Bf16Weights:
    """Copies of the weights of linear layers in bf16, for forward passes under autocast.

    Autocast converts a weight in fp32 in every pass, which takes longer than its product with a few tokens. The results
    are the same. The copies are made on first use, and left out where they would take too much of the free memory.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        """The weights of `layers` must not change."""
        self._layers = layers
        self._copies: list[nn.Parameter] | None = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the layers compute with the copies."""
        if self._copies is None:
            self._copies = self._copied()
        exact = [layer.weight for layer in self._layers]
        try:
            for layer, copy in zip(self._layers, self._copies, strict=False):  # none if there is too little memory
                layer.weight = copy
            yield
        finally:
            for layer, weight in zip(self._layers, exact, strict=True):
                layer.weight = weight

    def _copied(self) -> list[nn.Parameter]:
        size = sum(2 * layer.weight.numel() for layer in self._layers)
        if size > MOST * psutil.virtual_memory().available:
            return []
        with torch.inference_mode(False):
            return [nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False) for layer in self._layers]
