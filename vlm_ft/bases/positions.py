"""Position ids of a prompt's tokens, always passed explicitly, so that no model depends on remembered state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm_ft.bases.families import Family


def positions_of(model: Any, family: Family, batch: dict[str, Any]) -> Tensor:
    """Position ids of a padded batch: (rows, length), or (3, rows, length) by time, height and width.

    Qwen's families place an image's tokens on a grid (multimodal RoPE, Wang et al. 2024, Qwen2-VL, section 2.1); the
    positions of the text after it continue from the grid's longest side.
    """
    mask = batch["attention_mask"]
    plain: Tensor = (mask.long().cumsum(-1) - 1).clamp(min=0) + family.first_position
    if not family.grid_positions:
        return plain
    if batch.get("image_grid_thw") is None:
        return plain.expand(3, -1, -1)
    rope_index = next(module.get_rope_index for module in model.modules() if hasattr(module, "get_rope_index"))
    grids, kinds = batch["image_grid_thw"], batch["mm_token_type_ids"]
    positions: Tensor = rope_index(batch["input_ids"], kinds, image_grid_thw=grids, attention_mask=mask)[0]
    return positions


def first_positions(family: Family, length: int, device: torch.device) -> Tensor:
    """Position ids of the first tokens of any prompt, before an image: (1, length), or (3, 1, length)."""
    plain = torch.arange(length, device=device)[None] + family.first_position
    return plain.expand(3, -1, -1) if family.grid_positions else plain
