"""Reward modelling: a value head that gives the better reply of a pair the higher score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.bases.value_head import values as values_of
from vlm_ft.conversation import Batch, Row
from vlm_ft.data.cases import Case
from vlm_ft.likelihood import last_hidden
from vlm_ft.training.methods.method import Images, Method, reply_rows
from vlm_ft.training.methods.preference import require_pairs


class Reward(Method):
    """The model of Bradley & Terry (1952) on pairs, as in Ouyang et al. (2022), eq. 1."""

    name = "reward"
    per_token = False

    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` unless every case has a chosen and a rejected reply."""
        require_pairs(self.name, cases)

    def rows(self, form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
        """The chosen and the rejected reply."""
        return reply_rows(form, case, images)

    def loss(self, model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
        """The mean over the pairs."""
        chosen, rejected = scores(model, batch).view(-1, 2).T
        return -logsigmoid(chosen - rejected).mean()


def scores(model: Any, batch: Batch) -> Tensor:
    """The reward of each row's reply, (rows,)."""
    return values_of(model, last_hidden(model, batch))
