"""Rows of training: cases to supervised tensors, augmented on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from datasets_vision.augment import augment
from datasets_vision.example import LabelledObject, Picture
from datasets_vision.images import open_image
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Items
from vlm_ft.answers.task import Values
from vlm_ft.conversation import Batch, Conversation, Row
from vlm_ft.data.cases import Case


class Collator:
    """Turns ``[{"index": i}, ...]`` into one supervised batch.

    Augmentation is a function of (seed, epoch, index) alone, so that a resumed run draws what it would have drawn.
    """

    def __init__(
        self, conversation: Conversation, form: Form, cases: Sequence[Case], preset: str = "none", seed: int = 0
    ) -> None:
        self.conversation = conversation
        self.form = form
        self.cases = cases
        self.preset = preset
        self.seed = seed
        self.epoch = 0

    def row(self, index: int) -> Row:
        """The row of a case, augmented; only observed fields are asked."""
        case = self.cases[index]
        images: tuple[Picture | Image, ...] = case.example.images
        values = case.values
        if self.preset != "none" and len(images) == 1:
            opened, values = self._augmented(open_image(case.example.images[0]), values, index)
            images = (opened,)
        form = self.form.narrow(values)
        return Row(form, case.example.turns, images, form.target(values))

    def __call__(self, features: Sequence[dict[str, Any]]) -> Batch:
        """Indices to tensors (batch, length) and the family's image tensors."""
        return self.conversation.encode([self.row(feature["index"]) for feature in features], supervised=True)

    def _augmented(self, image: Image, values: Values, index: int) -> tuple[Image, Values]:
        key = f"{self.seed}:{self.epoch}:{index}".encode()
        seed = int.from_bytes(hashlib.sha256(key).digest()[:4])
        boxed = [(name, place) for name in self._boxed_lists for place in range(len(values.get(name, ())))]
        objects = tuple(LabelledObject(name, tuple(values[name][place]["box"])) for name, place in boxed)
        image, moved = augment(image, objects, self.preset, seed)
        values = {**values, **{name: [dict(row) for row in values[name]] for name in {name for name, _ in boxed}}}
        for (name, place), thing in zip(boxed, moved or (), strict=True):
            values[name][place]["box"] = list(thing.box or ())
        return image, values

    @property
    def _boxed_lists(self) -> list[str]:
        return [field.name for field in self.form.fields if isinstance(field.kind, Items) and field.kind.boxed]
