"""Turn cases into augmented, supervised training batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawValue
from pathlib import Path

import torch
from PIL.Image import Image

from datasets_vision.augment import augment_together
from datasets_vision.example import LabelledObject
from datasets_vision.images import open_image
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, FieldSpec, Items
from vlm_ft.answers.task import Values
from vlm_ft.bases.features import PIXELS, Features, joined
from vlm_ft.conversation import FEATURES, MARKS, REFERENCE, SHOWN, Batch, Conversation, Row
from vlm_ft.data.cases import Case
from vlm_ft.recipe import Training
from vlm_ft.training.bank import Bank, Entry, load_entry
from vlm_ft.training.methods import Method
from vlm_ft.training.methods.method import Images
from vlm_ft.training.methods.sft import SFT
from vlm_ft.training.order import ByLength

NO_PHOTOS = Entry({}, (), None)
SPARE = 4
"""Photos are decoded at this multiple of the pixels that the base sees, since crops keep at least a quarter of them."""


class Collator:
    """Turns cases, given by their places, into one supervised batch.

    Augmentation depends only on (seed, epoch, index), so that a resumed run draws the same variants; with a `bank`,
    epochs show its views in turn. `lengths`: the tokens of each case's prompt and longest answer; `shared`: those at
    the start of every prompt that a batch computes only once. `visits`: how often an epoch has each case; () for once.
    `references`: for each case, the log-likelihoods of its rows under the model that the run began with.
    """

    def __init__(
        self,
        conversation: Conversation,
        form: Form,
        cases: Sequence[Case],
        preset: str = "none",
        seed: int = 0,
        method: Method | None = None,
    ) -> None:
        self.conversation = conversation
        self.method = method = method or SFT()
        self.form = form
        self.cases = method.arranged(cases)
        self.lengths: Sequence[tuple[int, int]] = [(0, 0)] * len(self.cases)
        self.shared = 0
        self.visits: Sequence[float] = ()
        self.references: Sequence[Sequence[float]] = ()
        self.bank: Bank | None = None
        self.preset = preset
        self.seed = seed
        self._epoch = RawValue("q", 0)  # in memory shared with worker processes

    @property
    def epoch(self) -> int:
        """The current epoch, which also reaches worker processes that started in an earlier one."""
        return int(self._epoch.value)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.value = epoch

    @property
    def augments(self) -> bool:
        """Whether photos are augmented."""
        return self.preset != "none"

    @property
    def view(self) -> int:
        """Which variant of each photo this epoch shows."""
        return self.epoch % self.bank.views if self.bank else self.epoch

    def rows(self, index: int) -> Sequence[Row]:
        """The augmented rows of a case, which ask for observed fields only."""
        return self.method.rows(self.form, self.cases[index], *self.drawn(index, self.view))

    def drawn(self, index: int, view: int) -> tuple[Images, Values]:
        """A variant of a case's photos, and the values that go with it."""
        case = self.cases[index]
        if not self.augments or not case.example.images:
            return case.example.images, case.values
        largest = SPARE * (self.conversation.reader.most_pixels or 0) or None
        photos = [open_image(picture, largest=largest) for picture in case.example.images]
        return self._augmented(photos, case.values, self._key(index, view))

    def entry_file(self, index: int, view: int) -> Path:
        """The bank's file for a variant of a case."""
        assert self.bank is not None
        variant = [self.preset, self._key(index, view), self.cases[index].values] if self.augments else []
        return self.bank.file(self.cases[index].example.images, variant)

    def order(self, settings: Training) -> ByLength:
        """The order in which training visits the cases."""
        by_tokens = settings.batch_by == "tokens"
        return ByLength(
            self.lengths, settings.batch_size, self.seed, self.visits, by_tokens=by_tokens, shared=self.shared
        )

    def __call__(self, indices: Sequence[int]) -> Batch:
        """The token tensors (batch, length) of these cases, and the family's image tensors."""
        batch = self._from_bank(indices) if self.bank else self._encoded([self.rows(index) for index in indices])
        if marks := [mark for index in indices for mark in self.method.marks(self.cases[index])]:
            batch[MARKS] = torch.tensor(marks)
        if self.references:
            batch[REFERENCE] = torch.tensor([value for index in indices for value in self.references[index]])
        return batch

    def _encoded(self, cases: Sequence[Sequence[Row]]) -> Batch:
        return self.method.encode(self.conversation, [row for rows in cases for row in rows])

    def _from_bank(self, indices: Sequence[int]) -> Batch:
        """Encode blank photos of the same sizes, and replace their pixels with the features in the bank."""
        rows, features = list[Sequence[Row]](), list[Features]()
        for index in indices:
            case, entry = self.cases[index], NO_PHOTOS
            if case.example.images:
                entry = load_entry(self.entry_file(index, self.view))
            blanks = [self.conversation.reader.blank(size) for size in entry.sizes]
            values = case.values if entry.values is None else entry.values
            rows.append(self.method.rows(self.form, case, blanks, values))
            features += [entry.features] * len(rows[-1]) if entry.features else []
        batch = self._encoded(rows)
        for key in (*PIXELS, SHOWN):
            batch.pop(key, None)
        if features:
            batch[FEATURES] = joined(features)
        return batch

    def _key(self, index: int, view: int) -> str:
        return f"{self.seed}:{view}:{index}"

    def _augmented(self, images: Sequence[Image], values: Values, key: str) -> tuple[tuple[Image, ...], Values]:
        """Augment all images of a case in the same way, and move its boxes with them."""
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4])
        values, boxes = _copy_with_boxes(self.form.fields, values)
        objects = tuple(LabelledObject(name, tuple(record[name]), record) for record, name in boxes)
        drawn, moved = augment_together(images, objects, self.preset, seed)
        for (record, name), moved_object in zip(boxes, moved or (), strict=True):
            record[name] = list(moved_object.box or ())
        return drawn, values


def _copy_with_boxes(fields: Sequence[FieldSpec], values: Values) -> tuple[Values, list[tuple[Values, str]]]:
    """A copy of the values, and the location of every box in it, as (record, key)."""
    copied = dict(values)
    boxes: list[tuple[Values, str]] = []
    for field in fields:
        if field.name not in values:
            continue
        if isinstance(field.kind, BoxKind):
            boxes.append((copied, field.name))
        elif isinstance(field.kind, Items) and field.kind.box:
            copied[field.name] = [dict(row) for row in values[field.name]]
            boxes += [(row, field.kind.box) for row in copied[field.name] if field.kind.box in row]
    return copied, boxes
