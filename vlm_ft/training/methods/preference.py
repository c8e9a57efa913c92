"""Learning from replies that people judged: DPO from pairs, KTO from single replies.

Both compare the trained model with the model at the start of the run, whose log-likelihoods are computed once, before
the first step, and come with the batch; a batch without them is compared with the current model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ft.conversation import MARKS, REFERENCE, Batch
from vlm_ft.data.cases import Case, Reply
from vlm_ft.errors import DataError
from vlm_ft.likelihood import log_likelihoods
from vlm_ft.recipe import Preference
from vlm_ft.training.methods.method import Judged, Pairs

UNRELATED = 0.0
"""The mark of a reply to another prompt; 1 and -1 mark liked and disliked replies."""


def log_ratios(model: Any, batch: Batch) -> Tensor:
    """How much more likely each row's reply is than at the start of the run, (rows,), in nats."""
    found = log_likelihoods(model, batch)
    reference: Tensor = batch.get(REFERENCE, found.detach())
    return found - reference


class DPO(Pairs):
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7)."""

    name = "dpo"
    compares = True

    def __init__(self, settings: Preference) -> None:
        self._settings = settings

    def loss(self, model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
        """The mean over the pairs."""
        chosen, rejected = log_ratios(model, batch).view(-1, 2).T
        return -logsigmoid(self._settings.beta * (chosen - rejected)).mean()


class KTO(Judged):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, eq. 8).

    Its reference point, the divergence from the model at the start of the run, is estimated on replies to other
    prompts: each case also has the reply of the next one.
    """

    name = "kto"
    rows_per_case = 3
    compares = True

    def __init__(self, settings: Preference) -> None:
        self._settings = settings

    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` unless there are both liked and disliked replies."""
        if len({reply.liked for case in cases for reply in case.replies}) < 2:
            problem = "needs both liked and disliked replies among the training examples"
            raise DataError("method kto", problem, "use the format preferences")

    def arranged(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Each case with replies, plus a reply of the next case, without a verdict."""
        judged = super().arranged(cases)
        following = (*judged[1:], *judged[:1])
        return tuple(
            replace(case, replies=(*case.replies, Reply(other.replies[0].values, None)))
            for case, other in zip(judged, following, strict=True)
        )

    def marks(self, case: Case) -> Sequence[float]:
        """1 for a liked reply, -1 for a disliked one, 0 for a reply to another prompt."""
        return [UNRELATED if reply.liked is None else 1.0 if reply.liked else -1.0 for reply in case.replies]

    def loss(self, model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
        """The mean over the judged replies, each weighted by its verdict."""
        ratios, marks = log_ratios(model, batch), batch[MARKS]
        judged, settings = marks != UNRELATED, self._settings
        reference_point = ratios[~judged].detach().mean().clamp(min=0)
        losses = 1 - torch.sigmoid(settings.beta * marks[judged] * (ratios[judged] - reference_point))
        weights = torch.where(marks[judged] > 0, settings.liked_weight, settings.disliked_weight)
        return (weights * losses).mean()
