"""`evaluating`: a model in evaluation mode, without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


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
