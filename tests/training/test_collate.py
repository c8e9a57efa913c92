"""In training rows, the boxes in the answer move with the augmented images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from PIL import Image
from pydantic import Field

from datasets_vision.example import Example
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Answer, Box, Item
from vlm_ft.answers.task import Task
from vlm_ft.bases.reader import open_reader
from vlm_ft.conversation import Conversation
from vlm_ft.data.cases import Case
from vlm_ft.training.collate import SPARE, Collator

SQUARE = (300, 200, 600, 450)


class Spot(Item):
    """One spot, whose box is not named `box`."""

    at: Box


class Located(Answer):
    """A box beside a list of boxes."""

    main: Box
    spots: Annotated[list[Spot], Field(max_length=4)]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A reference and a test photo of 200 x 120 pixels, with the same white rectangle, as a pair of boards has."""
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[24:54, 60:120] = 255
    images = (tmp_path / "reference.png", tmp_path / "test.png")
    for path in images:
        Image.fromarray(pixels).save(path)
    return Case(Example("pair", images=images), {"main": list(SQUARE), "spots": [{"at": list(SQUARE)}]})


@pytest.fixture
def form() -> Form:
    sample = Located(main=SQUARE, spots=[Spot(at=SQUARE)])
    return Form.of(Task(name="spots", title="Spots", answer=Located, instruction="Find the spot.", sample=sample))


@pytest.fixture(scope="module")
def conversation(tiny_folder: Callable[[str], Path]) -> Conversation:
    return Conversation(open_reader(str(tiny_folder("qwen3_vl"))))


def test_a_large_photo_is_shrunk_before_it_is_augmented(
    tiny_folder: Callable[[str], Path], case: Case, form: Form
) -> None:
    reader = open_reader(str(tiny_folder("llava_siglip_qwen2")))
    collator = Collator(Conversation(reader), form, [case], "light")
    (photo, _) = collator.rows(0)[0].images
    assert photo.width * photo.height <= SPARE * reader.most_pixels < 200 * 120


def seen(image: Image.Image) -> list[float]:
    """The box of the white area, 0..1000."""
    bright = np.asarray(image)[..., 0] > np.asarray(image).max() / 2
    rows, columns = np.nonzero(bright)
    height, width = bright.shape
    sides = columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height
    return [1000 * side for side in sides]


@pytest.mark.parametrize("preset", ["light", "flips", "surfaces"])
def test_both_photos_of_a_pair_are_augmented_alike_and_boxes_follow(
    conversation: Conversation, case: Case, form: Form, preset: str
) -> None:
    collator = Collator(conversation, form, [case], preset, seed=3)
    for epoch in range(6):
        collator.epoch = epoch
        row = collator.rows(0)[0]
        values = form.parse(row.target)
        reference, test = row.images
        assert values["main"] == values["spots"][0]["at"]
        np.testing.assert_allclose(seen(test), values["main"], atol=20)  # two pixels of the shorter side
        np.testing.assert_allclose(seen(reference), seen(test), atol=10)  # noise may move an edge by a pixel
    assert case.values["main"] == list(SQUARE)


def test_an_epoch_is_reproducible_and_epochs_differ(conversation: Conversation, case: Case, form: Form) -> None:
    first, second = Collator(conversation, form, [case], "flips"), Collator(conversation, form, [case], "flips")
    assert first.rows(0)[0].target == second.rows(0)[0].target
    targets = set()
    for first.epoch in range(8):
        targets.add(first.rows(0)[0].target)
    assert len(targets) > 3


def test_without_augmentation_the_files_are_passed_on(conversation: Conversation, case: Case, form: Form) -> None:
    row = Collator(conversation, form, [case]).rows(0)[0]
    assert row.images == case.example.images
    assert form.parse(row.target) == case.values
