"""`Method`: what distinguishes one way of training from another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from torch import Tensor

from datasets_vision.example import Picture
from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.bases.load import Base
from vlm_ft.conversation import SHOWN, Batch, Conversation, Row, photos_shown
from vlm_ft.data.cases import Case
from vlm_ft.errors import DataError

Images = Sequence[Picture | Image]


class Method(ABC):
    """One way of training: what a row is, and what its loss is."""

    name: ClassVar[str]
    per_token: ClassVar[bool] = True
    """Whether the loss of a step is a mean over its supervised tokens, rather than over the examples of a batch."""
    rows_per_case: int = 1
    """The most rows that one case makes."""
    compares: ClassVar[bool] = False
    """Whether rows are compared with the model at the start of the run, for which photos must not be augmented."""
    samples: ClassVar[bool] = False
    """Whether a step learns from answers that it samples, instead of from rows that `encode` makes. Processes then
    differ in how often they run the model, and photos cannot come from a bank."""

    @property
    def compares_weights(self) -> bool:
        """Whether the loss needs the weights at the start of the run, which a resumed run must then recreate."""
        return False

    @abstractmethod
    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` if the training cases lack what the method learns from."""

    def arranged(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases as the method learns from them: by default, those that state an answer."""
        return tuple(case for case in cases if case.values)

    @abstractmethod
    def rows(self, form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
        """The rows of one case, from its images and values after augmentation."""

    def marks(self, case: Case) -> Sequence[float]:
        """A number for each row of a case, if the loss needs one."""
        return ()

    def encode(self, conversation: Conversation, rows: Sequence[Row]) -> Batch:
        """The rows as the tensors that `loss` takes."""
        return encoded(conversation, rows)

    def begin(self, base: Base, conversation: Conversation) -> None:  # noqa: B027 (most methods need nothing)
        """Called before the first loss is computed, when the base's model has the weights at the start of the run."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, count: Tensor | int | None) -> Tensor:
        """The loss of a batch. If `per_token`, it is a sum divided by `count`, by default the batch's own."""


class Judged(Method):
    """A method that learns from replies that people judged."""

    per_token = False

    def arranged(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases with judged replies."""
        return tuple(case for case in cases if case.replies)

    def rows(self, form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
        """One row for each reply."""
        return reply_rows(form, case, images)


class Pairs(Judged):
    """A method that learns from a chosen and a rejected reply."""

    rows_per_case = 2

    def arranged(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases with a pair."""
        return tuple(case for case in cases if _has_pair(case))

    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` unless every case has a chosen and a rejected reply."""
        require_pairs(f"method {self.name}", cases)


def require_pairs(who: str, cases: Sequence[Case]) -> None:
    """Raise `DataError` unless every case has a chosen and a rejected reply, in this order."""
    for case in cases:
        if not _has_pair(case):
            place = case.example.source or case.example.id
            raise DataError(place, f"lacks the chosen and rejected replies that {who} needs", "give pairs")


def _has_pair(case: Case) -> bool:
    return [reply.liked for reply in case.replies] == [True, False]


def encoded(conversation: Conversation, rows: Sequence[Row], *, end: bool = True) -> Batch:
    """Encode supervised rows, with or without the end of the turn.

    If several rows show the same photo, the batch records it, so that the tower runs on it only once.
    """
    batch = conversation.encode(rows, supervised=True, end=end)
    shown = photos_shown(rows)
    if shown is not None and len(set(shown)) < len(shown):
        batch[SHOWN] = torch.tensor(shown)
    return batch


def reply_rows(form: Form, case: Case, images: Images) -> list[Row]:
    """The case's prompt, followed by each of the replies that people judged."""
    rows = []
    for reply in case.replies:
        asked = form.narrow(reply.values)
        rows.append(Row(asked, case.example.turns, tuple(images), asked.target(reply.values)))
    return rows
