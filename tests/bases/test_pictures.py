"""Attending to pictures together changes no value, whether they are of one size or not."""

from __future__ import annotations

import copy

import pytest
import torch
from vlm_ft.bases.starter.architecture import build_starter

from vlm_ft.bases.pictures import attend_together

GRIDS = {"equal": [[1, 12, 12]] * 3, "different": [[1, 12, 12], [1, 8, 12]]}  # frames, rows and columns of patches


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_values_and_gradients_stay(grid: list[list[int]]) -> None:
    plain = build_starter(0).model.visual
    together = copy.deepcopy(plain)
    attend_together(together)
    patches = sum(rows * columns for _, rows, columns in grid)
    pixels = torch.randn(patches, 1536, generator=torch.Generator().manual_seed(0))
    results = []
    for tower in (plain, together):
        seen = tower(pixels, grid_thw=torch.tensor(grid)).pooler_output
        seen.square().mean().backward()
        results.append((seen.detach(), next(tower.parameters()).grad))
    for one, other in zip(*results, strict=True):
        assert one is not None
        assert torch.allclose(one, other, atol=1e-5)  # float32 sums in another order
