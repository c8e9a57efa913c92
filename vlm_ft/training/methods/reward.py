"""Reward modelling: a value head that gives the better reply of a pair the higher score."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ft.bases.value_head import values
from vlm_ft.conversation import Batch
from vlm_ft.likelihood import last_hidden
from vlm_ft.training.methods.method import Pairs


class Reward(Pairs):
    """The model of Bradley & Terry (1952) on pairs, as in Ouyang et al. (2022), eq. 1."""

    name = "reward"

    def loss(self, model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
        """The mean over the pairs."""
        chosen, rejected = values(model, last_hidden(model, batch)).view(-1, 2).T
        return -logsigmoid(chosen - rejected).mean()
