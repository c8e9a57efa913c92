"""Augmentation never makes a label lie."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets_vision.augment import AUGMENTATIONS, augment
from datasets_vision.example import LabelledObject
from vlm_ft.errors import DataError

BOX = (300, 200, 600, 450)


def picture(box: tuple[int, int, int, int] = BOX) -> Image.Image:
    """200 x 120 pixels, black but for a white rectangle at `box` (0..1000)."""
    pixels = np.zeros((120, 200, 3), dtype=np.uint8)
    left, top, right, bottom = (round(side * size / 1000) for side, size in zip(box, (200, 120) * 2, strict=True))
    pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_what_they_enclose(preset, seed):
    image, objects = augment(picture(), (LabelledObject("dent", BOX), LabelledObject("whole")), preset, seed)
    dent, whole = objects
    assert (dent.name, whole) == ("dent", LabelledObject("whole"))
    pixels = np.asarray(image)[..., 0]
    rows, columns = np.nonzero(pixels > (int(pixels.min()) + int(pixels.max())) / 2)
    height, width = pixels.shape
    found = columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height
    # 2 %: two pixels of the shorter side, for the interpolation at an edge and the rounding of a box
    np.testing.assert_allclose(np.array(dent.box) / 1000, found, atol=0.02)


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_the_same_seed_gives_the_same_draw(preset):
    first, second = (augment(picture(), (LabelledObject("dent", BOX),), preset, 7) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1] == second[1]


@pytest.mark.parametrize("preset", [name for name, steps in AUGMENTATIONS.items() if steps])
def test_seeds_differ(preset):
    assert len({augment(picture(), None, preset, seed)[0].tobytes() for seed in range(8)}) > 4


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("objects", [None, (), (LabelledObject("whole"),)])
def test_without_boxes_the_statement_stays(preset, objects):
    assert augment(picture(), objects, preset, 3)[1] == objects


def test_a_draw_that_hides_an_object_is_not_taken():
    edge = (0, 100, 40, 900)  # 40 of 1000 wide: a cut of up to 100 at the left hides it
    image, objects = picture(edge), (LabelledObject("scratch", edge), LabelledObject("dent", BOX))
    drawn = [augment(image, objects, "light", seed) for seed in range(40)]
    refused = [result for result in drawn if result[0] is image]
    assert refused
    assert all(result[1] is objects for result in refused)
    assert all(len(result[1]) == 2 for result in drawn)


@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_tiny_images_survive(size):
    for seed in range(6):
        image, objects = augment(Image.new("RGB", size), (LabelledObject("dot", (0, 0, 1000, 1000)),), "flips", seed)
        assert sorted(image.size) == sorted(size)
        assert [thing.name for thing in objects] == ["dot"]


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'flips'"):
        augment(picture(), None, "flip", 0)
