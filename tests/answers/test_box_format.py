"""A box goes to a base's convention and back; the form asks, writes and reads it the same way."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from pydantic import Field

from vlm_ft.answers.box_format import OURS, BoxFormat
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
def test_a_box_goes_there_and_back(family, box: list[int], form: Form) -> None:
    asked = form.asking(family.boxes)
    values = {"main": box, "spots": [{"at": box}]}
    again = asked.read(asked.written(asked.target(values), SIZE), SIZE)
    for found in (again["main"], again["spots"][0]["at"]):
        assert found == pytest.approx(box, abs=1)  # a coarser convention rounds


def test_conventions_are_those_of_the_families(form: Form) -> None:
    box = [100, 200, 500, 1000]
    assert FAMILIES["qwen3_vl"].boxes == FAMILIES["gemma3"].boxes == OURS
    assert FAMILIES["qwen2_5_vl"].boxes.written(box, SIZE) == [146, 162, 728, 812]
    assert FAMILIES["paligemma"].boxes.written(box, None) == "<loc0205><loc0102><loc1023><loc0512>"
    asked = form.asking(FAMILIES["paligemma"].boxes)
    assert "top,left,bottom,right" in asked.prompt
    assert asked.fingerprint != form.fingerprint
    assert json.loads(asked.written(form.target({"main": box, "spots": []}), None))["main"].startswith("<loc0205>")


def test_what_is_not_a_box_is_reported_as_before(form: Form) -> None:
    for boxes in (OURS, BoxFormat(scale=None), FAMILIES["paligemma"].boxes):
        with pytest.raises(Exception, match="main"):
            form.asking(boxes).read('{"main":"nowhere","spots":[]}', SIZE)
