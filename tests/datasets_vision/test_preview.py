"""Contact sheets show the labels unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from datasets_vision.example import LabelledObject
from datasets_vision.preview import SheetExample, class_colours, contact_sheet, drawn_over


def grey(size: tuple[int, int] = (120, 80)) -> Image.Image:
    return Image.new("RGB", size, (90, 90, 90))


def shown(*names: str, images: int = 1, caption: tuple[str, ...] = ()) -> SheetExample:
    objects = tuple(
        LabelledObject(name, (100 + 40 * place, 200, 400 + 40 * place, 700)) for place, name in enumerate(names)
    )
    return SheetExample(tuple(grey() for _ in range(images)), objects, caption)


def has(picture: Image.Image, colour: str) -> bool:
    return bool((np.asarray(picture) == ImageColor.getrgb(colour)).all(-1).any())


def test_every_class_has_its_own_colour_in_legend_and_tile():
    examples = [shown("dent"), shown("crack", "dent"), shown("hole")]
    colours = class_colours(examples)
    assert list(colours) == ["crack", "dent", "hole"]
    assert len(set(colours.values())) == 3
    sheet = contact_sheet(examples, "none", draws=0)
    assert all(has(sheet, colour) for colour in colours.values())


@pytest.mark.parametrize("tile", [60, 240])
def test_a_box_is_drawn_where_the_label_says(tile):
    box = (250, 250, 750, 750)
    picture = drawn_over(grey((200, 100)), [LabelledObject("x", box)], {"x": "#ff0000"}, tile)
    assert picture.size == (tile, tile // 2)
    red = (np.asarray(picture) == (255, 0, 0)).all(-1)
    columns = np.flatnonzero(red.sum(0) > 0.3 * tile / 2)  # the vertical sides of the box, not the name
    assert abs(columns.min() - tile / 4) <= 2
    assert abs(columns.max() - 3 * tile / 4) <= 2


def test_every_box_of_a_crowd_is_drawn():
    crowd = [LabelledObject(f"object_{n}", (400, 100 + 60 * n, 600, 300 + 60 * n)) for n in range(10)]
    colours = {obj.name: f"#00{10 * n + 100:02x}00" for n, obj in enumerate(crowd)}
    picture = drawn_over(grey(), crowd, colours, 120)
    assert all(has(picture, colour) for colour in colours.values())


def test_the_sheet_is_reproducible_and_wider_with_draws():
    examples = [shown("dent", caption=("one", "kind: dent")), shown(images=3)]
    first, second = (contact_sheet(examples, "flips", draws=2, seed=4) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert contact_sheet(examples, "flips", draws=4).width > first.width
    assert contact_sheet(examples, "flips", draws=0).width < first.width


def test_a_pair_is_shown_whole_in_every_draw():
    """With two images, each draw shows both; with three, only the last."""
    tile = 100
    pair, three = (contact_sheet([shown("x", images=n)], "light", draws=2, tile=tile).width for n in (2, 3))
    assert 6 * tile < pair < 7 * tile
    assert 5 * tile < three < 6 * tile


def test_missing_labels_and_long_captions_are_accepted():
    example = SheetExample((grey((7, 300)),), None, ("x" * 500, "ümlaut 漢字"))
    assert contact_sheet([example], "light", draws=1).width < 400
    assert contact_sheet([], "none").width > 0
