"""Marks are drawn in their place and colour, and leave the original picture unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets_vision.drawing import Mark, draw_boxes

BOX = (250, 250, 750, 750)


def red(picture: Image.Image) -> np.ndarray:
    return (np.asarray(picture) == (255, 0, 0)).all(-1)


@pytest.mark.parametrize("size", [(30, 20), (400, 200), (2000, 100)])
def test_a_box_is_drawn_in_place(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size)
    drawn = red(draw_boxes(picture, [Mark(BOX, "", "#ff0000")]))
    columns = np.flatnonzero(drawn.any(0))
    assert drawn.shape == size[::-1]
    assert abs(columns.min() - size[0] / 4) <= max(2, size[0] // 320)
    assert abs(columns.max() - 3 * size[0] / 4) <= max(2, size[0] // 320)
    assert picture.getbbox() is None


def test_corners_leave_the_middle_of_a_side_open() -> None:
    whole, corners = (
        red(draw_boxes(Image.new("RGB", (400, 200)), [Mark(BOX, "", "#ff0000", style)])) for style in (False, True)
    )
    assert whole[:, 200].any()
    assert not corners[:, 200].any()
    assert corners.any()


@pytest.mark.parametrize("colour", ["#ffff00", "#000080"])
def test_a_label_is_readable(colour: str) -> None:
    drawn = np.asarray(draw_boxes(Image.new("RGB", (400, 200), "#888888"), [Mark(BOX, "dent", colour)], 20))
    assert (drawn == ((20, 20, 20) if colour == "#ffff00" else (255, 255, 255))).all(-1).any()


def test_named_and_nameless_marks_mix() -> None:
    marks = [Mark(BOX, "", "#ff0000"), Mark((0, 0, 100, 100), "dent", "#00ff00"), Mark(BOX, "pit", "#0000ff", True)]
    assert draw_boxes(Image.new("RGB", (400, 200)), marks).getbbox() is not None
    assert draw_boxes(Image.new("RGB", (400, 200)), []).getbbox() is None
