"""The tiny vision-language models that a test runs on: some of them, or all for the family matrix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from vlm_ft.bases.load import Base
from vlm_ft.bases.tiny import TINY

EVERY = "VLM_FT_EVERY_FAMILY"  # set it to run such tests on every family
SEEING = [name for name, tiny in TINY.items() if tiny.processor is not None]


def families(*some: str) -> list[str]:
    """These families; all that see if the environment asks for them."""
    return SEEING if os.environ.get(EVERY) else list(some)


@contextmanager
def tower_inputs(base: Base) -> Iterator[list[int]]:
    """Yield a list to which each forward pass of the vision tower appends the number of values that it looks at."""
    assert base.family.vision is not None
    tower = base.model.get_submodule(base.family.vision)
    first = next(module for module in tower.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    seen: list[int] = []
    handle = first.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].numel()))
    try:
        yield seen
    finally:
        handle.remove()
