"""A value head: one number for a row, read from the hidden state of its last token.

It is a module of the base, so that PEFT trains, stores and loads it like any other module trained in full.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

NAME = "value_head"


def add_value_head(model: Any) -> None:
    """Give the model a value head, which the model itself never runs; its weights start at zero."""
    head = nn.Linear(model.config.get_text_config().hidden_size, 1, bias=False)
    nn.init.zeros_(head.weight)
    setattr(model, NAME, head.to(model.device))


def has_value_head(model: Any) -> bool:
    return isinstance(getattr(model, NAME, None), nn.Module)


def values(model: Any, hidden: Tensor) -> Tensor:
    """The values (rows,) of hidden states (rows, width), in float32."""
    inner = getattr(model, "module", model)
    head = getattr(inner, NAME)
    return head(hidden.float())[:, 0]  # type: ignore[no-any-return]
