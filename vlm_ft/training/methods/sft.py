"""Supervised fine-tuning: the cross-entropy of the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.conversation import Batch, Row
from vlm_ft.data.cases import Case
from vlm_ft.errors import DataError
from vlm_ft.likelihood import token_losses
from vlm_ft.training.methods.method import Images, Method


class SFT(Method):
    """Learns the answer that a label states."""

    name = "sft"

    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` if no case has an answer."""
        if not any(case.values for case in cases):
            raise DataError("method sft", "no training example states an answer", "check the labels")

    def rows(self, form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
        """One row: a prompt that asks for the observed fields, and their answer."""
        asked = form.narrow(values)
        return (Row(asked, case.example.turns, tuple(images), asked.target(values)),)

    def loss(self, model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
        """The mean over the supervised tokens, in nats."""
        nats, _ = token_losses(model, batch)
        return nats.sum() / (len(nats) if count is None else count)
