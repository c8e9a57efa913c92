"""`Method`: what distinguishes one way of training from another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image
from torch import Tensor

from datasets_vision.example import Picture
from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.conversation import Batch, Row
from vlm_ft.data.cases import Case

Images = Sequence[Picture | Image]


@dataclass(frozen=True)
class Method:
    """One way of training.

    `rows(form, case, images, values)` returns the rows of one case, from its images and values after augmentation; a
    method that compares replies returns several. `loss(model, batch, count)` is in nats, summed over the batch and
    divided by `count`, by default the number of supervised tokens in the batch. `require(cases)` raises `DataError`
    if the training cases lack what the method learns from.
    """

    name: str
    rows: Callable[[Form, Case, Images, Values], Sequence[Row]]
    loss: Callable[[Any, Batch, Tensor | int | None], Tensor]
    require: Callable[[Sequence[Case]], None]
