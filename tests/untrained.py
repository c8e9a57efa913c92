"""Finished runs that were not trained: their weights are random, which takes a fraction of the time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run
from vlm_ft.training.prepare import prepare
from vlm_ft.training.run import _card


def move_trained_tensors(model: nn.Module) -> None:
    """Move every tensor that would be trained about as far as a few large steps do."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


def write_run(recipe: Recipe, folder: Path) -> None:
    """Write a run folder with all that serving, evaluating, calibrating and comparing its adapter needs."""
    run = Run(folder)
    with run.claimed(recipe):
        prepared = prepare(recipe, run.splits)
    move_trained_tensors(prepared.attached.model)
    prepared.attached.model.save_pretrained(str(run.adapter))
    _card(recipe, prepared, run.adapter, {"steps": 0, "seconds": 1.0}).write(run.adapter)
