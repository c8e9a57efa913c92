"""A data set knows which of its examples have changed, wherever it is stored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets_vision.example import Example, Turn, View
from tests.data.made_sets import photos
from vlm_ft.data.cases import load
from vlm_ft.data.contents import changes, contents
from vlm_ft.recipe import Recipe

PHOTO = "train/dent/traindent3.jpg"


def moved(folder: Path, target: Path) -> Recipe:
    """The recipe of the set after it was moved."""
    shutil.move(folder, target)
    made = photos(folder)
    shutil.rmtree(folder)
    return made.model_copy(update={"data": (made.data[0].model_copy(update={"path": target}),)})


def altered(path: Path, place: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


def test_a_set_that_only_moved_has_not_changed(tmp_path: Path) -> None:
    before = load(photos(tmp_path / "set"))
    fingerprint = before.fingerprint
    os.utime(tmp_path / "set" / PHOTO, (0, 0))
    after = load(moved(tmp_path / "set", tmp_path / "elsewhere"))
    assert changes(before.contents, after.contents) == ""
    assert after.fingerprint == fingerprint


@pytest.mark.parametrize("place", [600, -1])
def test_a_photo_that_was_edited_is_named(place: int, tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    before = load(made)
    fingerprint = before.fingerprint
    altered(tmp_path / "set" / PHOTO, place)
    assert changes(before.contents, load(made).contents) == "1 changed (train/dent/traindent3)"
    assert load(made).fingerprint != fingerprint


def test_added_and_removed_examples_are_named(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    before = load(made).contents
    (tmp_path / "set" / PHOTO).rename(tmp_path / "set/train/scratch/late.jpg")
    differences = changes(before, load(made).contents)
    assert differences == "1 added (train/scratch/late), 1 removed (train/dent/traindent3)"


@pytest.mark.parametrize(
    "change",
    [
        lambda example: (example, {"kind": "pit"}),
        lambda example: (Example(example.id, (Turn("user", "Why?"),), example.images), {}),
        lambda example: (Example(example.id, example.turns, (View(Path("gone.png"), frame=1),)), {}),
        lambda example: (Example(example.id, example.turns, (View(Path("gone.png"), crop=(0, 0, 9, 9)),)), {}),
    ],
)
def test_every_part_of_an_example_counts(change: Callable[[Example], tuple[Example, dict[str, str]]]) -> None:
    example = Example("1", (Turn("user", "What?"),), (View(Path("gone.png")),))
    before, after = contents([(example, {})]), contents([change(example)])
    assert changes(before, after) == "1 changed (1)"


def test_a_message_names_only_a_few_examples() -> None:
    assert changes({}, {str(number): "" for number in range(9)}) == "9 added (0, 1, 2 ...)"
