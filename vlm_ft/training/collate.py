"""Rows of training: cases to supervised tensors, augmented on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from datasets_vision.augment import augment_together
from datasets_vision.example import LabelledObject, Picture
from datasets_vision.images import open_image
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, FieldSpec, Items
from vlm_ft.answers.task import Values
from vlm_ft.conversation import Batch, Conversation, Row
from vlm_ft.data.cases import Case
from vlm_ft.training.methods import Method
from vlm_ft.training.methods.sft import SFT

SPARE = 4
"""A photo is decoded at so many times the pixels that the base sees of it: a crop keeps at least a quarter."""


class Collator:
    """Turns ``[{"index": i}, ...]`` into one supervised batch.

    Augmentation is a function of (seed, epoch, index) alone, so that a resumed run draws what it would have drawn.
    """

    def __init__(
        self,
        conversation: Conversation,
        form: Form,
        cases: Sequence[Case],
        preset: str = "none",
        seed: int = 0,
        method: Method = SFT,
    ) -> None:
        self.conversation = conversation
        self.method = method
        self.form = form
        self.cases = cases
        self.preset = preset
        self.seed = seed
        self.epoch = 0

    def rows(self, index: int) -> Sequence[Row]:
        """The rows of a case, augmented; only observed fields are asked."""
        case = self.cases[index]
        images: tuple[Picture | Image, ...] = case.example.images
        values = case.values
        if self.preset != "none" and images:
            largest = SPARE * (self.conversation.reader.most_pixels or 0) or None
            photos = [open_image(picture, largest=largest) for picture in case.example.images]
            images, values = self._augmented(photos, values, index)
        return self.method.rows(self.form, case, images, values)

    def __call__(self, features: Sequence[dict[str, Any]]) -> Batch:
        """Indices to tensors (batch, length) and the family's image tensors."""
        rows = [row for feature in features for row in self.rows(feature["index"])]
        return self.conversation.encode(rows, supervised=True)

    def _augmented(self, images: Sequence[Image], values: Values, index: int) -> tuple[tuple[Image, ...], Values]:
        """The same draw on all images of a case; its boxes follow."""
        key = f"{self.seed}:{self.epoch}:{index}".encode()
        seed = int.from_bytes(hashlib.sha256(key).digest()[:4])
        values, holders = _with_holders(self.form.fields, values)
        objects = tuple(LabelledObject(name, tuple(holder[name]), holder) for holder, name in holders)
        drawn, moved = augment_together(images, objects, self.preset, seed)
        for (holder, name), thing in zip(holders, moved or (), strict=True):
            holder[name] = list(thing.box or ())
        return drawn, values


def _with_holders(fields: Sequence[FieldSpec], values: Values) -> tuple[Values, list[tuple[Values, str]]]:
    """A copy of the values, and every place in it that holds a box: the record, and the box's name there."""
    copied = dict(values)
    holders: list[tuple[Values, str]] = []
    for field in fields:
        if field.name not in values:
            continue
        if isinstance(field.kind, BoxKind):
            holders.append((copied, field.name))
        elif isinstance(field.kind, Items) and field.kind.box:
            copied[field.name] = [dict(row) for row in values[field.name]]
            holders += [(row, field.kind.box) for row in copied[field.name] if field.kind.box in row]
    return copied, holders
