"""Where the tokens of a prompt stand: position ids, supplied by us so that no model has to remember any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm_ft.bases.families import Family


def positions_of(model: Any, family: Family, batch: dict[str, Any]) -> Tensor:
    """Position ids of a padded batch: (rows, length), or (3, rows, length) by time, height and width.

    Qwen's families place an image's tokens on a grid (multimodal RoPE, Wang et al. 2024, Qwen2-VL, section 2.1); the
    text after it goes on from the grid's longest side.
    """
    mask = batch["attention_mask"]
    plain: Tensor = (mask.long().cumsum(-1) - 1).clamp(min=0) + family.first_position
    if not family.grid_positions:
        return plain
    if batch.get("image_grid_thw") is None:
        return plain.expand(3, -1, -1)
    place = next(module.get_rope_index for module in model.modules() if hasattr(module, "get_rope_index"))
    grids, kinds = batch["image_grid_thw"], batch["mm_token_type_ids"]
    positions: Tensor = place(batch["input_ids"], kinds, image_grid_thw=grids, attention_mask=mask)[0]
    return positions


def first_positions(family: Family, length: int, device: torch.device) -> Tensor:
    """Position ids of the first tokens of any prompt, before an image: (1, length), or (3, 1, length)."""
    plain = torch.arange(length, device=device)[None] + family.first_position
    return plain.expand(3, -1, -1) if family.grid_positions else plain
