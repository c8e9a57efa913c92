"""Context managers for forward passes: one sets evaluation mode, the other records a module's inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode, without gradients, and restore its mode afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        torch.clear_autocast_cache()  # weights cast without gradients, if reused, would get none


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which each call of the module appends its first input, after any pre-hooks."""
    seen = list[Tensor]()
    handle = module.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
