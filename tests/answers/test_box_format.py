"""A box is converted to a base's convention and back, and the form asks for it in that convention."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from vlm_ft.answers.box_format import GRID, STANDARD, BoxFormat
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Answer, Box, Item
from vlm_ft.answers.task import Task
from vlm_ft.bases.families import FAMILIES

SIZE = (1456, 812)  # pixels of an image as a base sees it
BOXES = [[0, 0, 1000, 1000], [10, 200, 333, 450], [998, 0, 999, 1]]


class Spot(Item):
    """A box inside a list."""

    at: Box


class Located(Answer):
    """A box beside a list of boxes."""

    main: Box
    spots: Annotated[list[Spot], Field(max_length=4)]


@pytest.fixture
def form() -> Form:
    sample = Located(main=(1, 2, 3, 4), spots=[Spot(at=(5, 6, 7, 8))])
    return Form.of(Task(name="spots", title="Spots", answer=Located, instruction="Find the spot.", sample=sample))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_a_box_survives_the_round_trip(family, box: list[int]) -> None:
    boxes = family.boxes
    assert boxes.stored(boxes.sides(box, SIZE), SIZE) == pytest.approx(box, abs=1)  # a coarser convention rounds


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_an_interpolated_box_is_as_exact_as_the_stored_one(box: list[int]) -> None:
    assert GRID.stored(GRID.exact(box, None), None) == box


def test_a_row_has_the_coordinate_of_its_middle() -> None:
    assert [GRID.row_number(row, 7) for row in range(7)] == [1, 2, 3, 4, 6, 7, 8]
    assert [GRID.row_number(row, 10) for row in range(10)] == list(range(10))


def test_each_family_has_its_own_convention(form: Form) -> None:
    box = [100, 200, 500, 1000]
    assert FAMILIES["qwen3_vl"].boxes == FAMILIES["gemma3"].boxes == STANDARD
    assert FAMILIES["qwen2_5_vl"].boxes.sides(box, SIZE) == [146, 162, 728, 812]
    paligemma = FAMILIES["paligemma"].boxes
    written = paligemma.between.join(map(paligemma.side, paligemma.sides(box, None)))
    assert written == "<loc0205><loc0102><loc1023><loc0512>"
    assert "top,left,bottom,right" in form.with_boxes(paligemma).prompt
    assert form.with_boxes(paligemma).fingerprint != form.fingerprint


def test_a_box_beyond_the_image_is_clipped() -> None:
    assert BoxFormat(scale=None).stored([0, 0, 2000, 812], SIZE) == [0, 0, 1000, 1000]
