"""The form that the checks derive from the data, and the lengths of its rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.example import Turn
from tests.data.made_sets import (
    SIDE,
    boxed,
    photos,
    rows,
    texts,
)
from tests.forms import whole_form
from vlm_ft.answers.box_format import GRID
from vlm_ft.bases.reader import open_reader
from vlm_ft.conversation import Conversation, Row
from vlm_ft.data.cases import load
from vlm_ft.data.checks import check
from vlm_ft.errors import FormError, UserError
from vlm_ft.lengths import Ruler
from vlm_ft.recipe import Tiling
from vlm_ft.tasks import TASKS


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_card": "example_eur", "fields": ("kind",)},
        {"tiling": Tiling(side=32, overlap=8), "fields": ("passed",)},
        {"fields": ("findings.severity",)},
    ],
    ids=str,
)
def test_checks_refuse_what_training_refuses(changes: dict[str, Any], tmp_path: Path) -> None:
    made = boxed(tmp_path / "set").model_copy(update=changes)
    with pytest.raises(UserError) as refused:
        load(made)
    with pytest.raises(type(refused.value), match=re.escape(str(refused.value))):
        check(made)


def test_a_column_of_free_text_is_not_a_choice(tmp_path: Path) -> None:
    made = texts(tmp_path / "set")
    rows("train.csv", *(f"Text {n}.,clause {n},q" for n in range(3000)))(tmp_path / "set")
    with pytest.raises(FormError, match="clause_type: more than 2000 names") as error:
        check(made)
    assert "\n" not in str(error.value)


def test_labels_that_fill_no_field_are_refused(tmp_path: Path) -> None:
    made = photos(tmp_path / "set").model_copy(update={"task": "legal_documents", "fields": ("risk",)})
    with pytest.raises(FormError, match="risk"):
        check(made)


@pytest.mark.parametrize("text", ["Look at <image> this.", ""])
@pytest.mark.parametrize("name", ["qwen3_vl", "smolvlm", "internvl", "llava_onevision", "llama"])
def test_a_row_has_the_length_that_training_measures(
    name: str, text: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """It is measured without the weights, on blank pictures of the same size."""
    made = boxed(tmp_path / "set").model_copy(update={"base": str(tiny_folder(name))})
    reader = open_reader(made.base)
    ruler = Ruler(reader)
    case = load(made).cases["train"][0]
    form = load(made).form.narrow(case.values)
    turns, target = (Turn("user", text),) if text else (), form.target(case.values)
    images = case.example.images if reader.sees else ()
    expected = Conversation(reader).lengths(Row(form, turns, images, target))
    tokens, image_tokens = ruler.prompt(form, turns, [(SIDE, SIDE)])
    tokens += ruler.answer(form, turns, [(SIDE, SIDE)], target)
    assert (tokens, image_tokens) == (expected if reader.sees else (expected[0], 0))
    assert ruler.limit == reader.max_length
    assert (ruler.most_pixels is None) == (not reader.sees)


def test_rows_with_and_without_boxes_have_different_lengths(tiny_folder: Callable[[str], Path]) -> None:
    """Only a form that asks for boxes has numbers before the rows of image tokens, and cases of one set can differ."""
    reader = open_reader(str(tiny_folder("fast_vlm")))
    whole = whole_form(TASKS["product_defects"]).with_boxes(GRID)
    photo, ruler = reader.blank((SIDE, SIDE)), Ruler(reader)
    for form in (whole.narrow(["passed"]), whole):
        expected = Conversation(reader).lengths(Row(form, (), (photo,)))
        assert ruler.prompt(form, (), [(SIDE, SIDE)]) == expected
