"""`Method`: what distinguishes one way of training from another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from PIL.Image import Image
from torch import Tensor

from datasets_vision.example import Picture
from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.bases.load import Base
from vlm_ft.conversation import Batch, Conversation, Row
from vlm_ft.data.cases import Case

Images = Sequence[Picture | Image]


class Method(ABC):
    """One way of training: what a row is, and what its loss is."""

    name: ClassVar[str]
    per_token: ClassVar[bool] = True
    """Whether the loss of a step is a mean over its supervised tokens; otherwise, over the examples of a batch."""
    compares: ClassVar[bool] = False
    """Whether rows are compared with the model that the run began with, for which photos must not be augmented."""

    @abstractmethod
    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` if the training cases lack what the method learns from."""

    def arranged(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases as the method learns from them."""
        return tuple(cases)

    @abstractmethod
    def rows(self, form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
        """The rows of one case, from its images and values after augmentation."""

    def marks(self, case: Case) -> Sequence[float]:
        """A number for each row of a case, if the loss needs one."""
        return ()

    def encode(self, conversation: Conversation, rows: Sequence[Row]) -> Batch:
        """The rows as the tensors that `loss` takes."""
        return conversation.encode(rows, supervised=True)

    def begin(self, base: Base, conversation: Conversation) -> None:  # noqa: B027 (most methods need nothing)
        """Called before the first loss is computed; the model to be trained is the base's, prepared."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, count: Tensor | int | None) -> Tensor:
        """The loss of a batch. If it is `per_token`: summed and divided by `count`, by default the batch's own."""


def reply_rows(form: Form, case: Case, images: Images) -> list[Row]:
    """One row for each reply that people judged: the case's prompt, followed by that reply."""
    rows = []
    for reply in case.replies:
        asked = form.narrow(reply.values)
        rows.append(Row(asked, case.example.turns, tuple(images), asked.target(reply.values)))
    return rows
