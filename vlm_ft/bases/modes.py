"""Contexts for forward passes: evaluation mode, and a record of what a module is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode, without gradients, and back into its own mode at the end."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        torch.clear_autocast_cache()  # weights that were cast without gradients would get none


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that gets the first input of each of the module's calls, as its pre-hooks leave it."""
    seen = list[Tensor]()
    handle = module.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
