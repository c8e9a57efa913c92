"""Augmentation never makes a label wrong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets_vision.augment import AUGMENTATIONS, augment_together, broken_word, safe_presets
from datasets_vision.example import LabelledObject
from vlm_ft.errors import DataError

MIRRORING = {"flips", "surfaces", "cars", "aircraft", "objects", "waste"}
TURNING = MIRRORING - {"cars", "objects"}
BOX = (300, 200, 600, 450)


def picture(box: tuple[int, int, int, int] = BOX) -> Image.Image:
    """200 x 120 pixels, black except for a white rectangle at `box` (0..1000)."""
    pixels = np.zeros((120, 200, 3), dtype=np.uint8)
    left, top, right, bottom = (round(side * size / 1000) for side, size in zip(box, (200, 120) * 2, strict=True))
    pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


Objects = tuple[LabelledObject, ...] | None


def augment(image: Image.Image, objects: Objects, preset: str, seed: int) -> tuple[Image.Image, Objects]:
    (drawn,), moved = augment_together((image,), objects, preset, seed)
    return drawn, moved


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
def test_labels_without_boxes_are_kept(preset, objects):
    assert augment(picture(), objects, preset, 3)[1] == objects


def test_a_draw_that_hides_an_object_is_rejected():
    edge = (0, 100, 40, 900)  # 40 of 1000 wide: a crop of up to 100 on the left hides it
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
        assert [obj.name for obj in objects] == ["dot"]


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'flips'"):
        augment(picture(), None, "flip", 0)


def test_flips_and_rotations_are_drawn_independently():
    """A square with one bright corner shows all eight orientations, none of them in most draws."""
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    pixels[:30, :20] = 255
    seen = []
    for seed in range(120):
        bright = np.asarray(augment(Image.fromarray(pixels), None, "flips", seed)[0])[..., 0] > 120
        rows, columns = np.nonzero(bright)
        seen.append((rows.mean() < 30, columns.mean() < 30, np.ptp(rows) > np.ptp(columns)))
    shares = [seen.count(orientation) / len(seen) for orientation in set(seen)]
    assert len(shares) == 8
    assert max(shares) < 0.4


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(200, 120), (400, 240)])
def test_a_pair_stays_aligned_and_boxes_belong_to_the_last(preset, size):
    """The reference, of the same size or twice as large, shows the rectangle where the test photo does."""
    for seed in range(6):
        reference = picture().resize(size, Image.Resampling.NEAREST)
        (first, last), (dent,) = augment_together((reference, picture()), (LabelledObject("dent", BOX),), preset, seed)
        alone = augment(picture(), (LabelledObject("dent", BOX),), preset, seed)
        assert last.tobytes() == alone[0].tobytes()
        assert dent == alone[1][0]
        places = []
        for image in (first, last):
            grey = np.asarray(image)[..., 0].astype(float)
            rows, columns = np.nonzero(grey > (grey.min() + grey.max()) / 2)
            places.append((rows.mean() / grey.shape[0], columns.mean() / grey.shape[1]))
        np.testing.assert_allclose(*places, atol=0.01)  # a pixel of the shorter side


def test_an_object_lies_in_the_photo_that_it_names():
    """If it is hidden in the first photo, the draw is rejected, even though the last photo shows it whole."""
    edge = (0, 100, 40, 900)
    named = LabelledObject("dent", edge, {"photo": 1})
    other = Image.new("RGB", (200, 120))
    drawn = [augment_together((picture(edge), other), (named,), "light", seed) for seed in range(40)]
    refused = [images for images, objects in drawn if objects[0].box == edge and images[1] is other]
    assert 0 < len(refused) < 40


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize(
    "label", ["left_door", "Right wing", "R/H MLG", "passenger side", "LH flap", "door, left", "port engine"]
)
def test_a_mirror_image_is_refused_if_a_label_names_a_side(preset, label):
    assert (broken_word(preset, ["dent", label]) is not None) == (preset in MIRRORING)


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("label", ["upper_arm", "bottom seam", "top"])
def test_a_rotation_is_refused_if_a_label_names_an_end(preset, label):
    assert (broken_word(preset, [label]) is not None) == (preset in TURNING)


def test_words_that_only_contain_a_side_do_not_name_one():
    assert broken_word("flips", ["bright", "laptop", "upright", "leftover", "copyright", "stopper", "report"]) is None


def test_safe_presets_are_listed():
    assert safe_presets(["left_door"]) == ["none", "light", "scans", "documents"]
    assert safe_presets(["dent"]) == list(AUGMENTATIONS)


def test_scans_keep_their_sides_and_nearly_their_grey_levels():
    """A bright left half stays on the left, and no level moves by more than a tenth of the range."""
    pixels = np.full((80, 80, 3), 80, dtype=np.uint8)
    pixels[:, :40] = 160
    for seed in range(20):
        drawn = np.asarray(augment(Image.fromarray(pixels), None, "scans", seed)[0]).astype(int)
        assert drawn[20:60, 10:30].mean() > drawn[20:60, 50:70].mean() + 50
        assert abs(drawn[20:60, 10:30].mean() - 160) < 26
        assert abs(drawn[20:60, 50:70].mean() - 80) < 26


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(4))
def test_a_scaled_down_photo_gets_the_same_draw(preset, seed):
    large, small = picture().resize((1600, 960), Image.Resampling.NEAREST), picture()
    objects = (LabelledObject("dent", BOX),)
    (whole,), (scaled,) = augment(large, objects, preset, seed)[1], augment(small, objects, preset, seed)[1]
    np.testing.assert_allclose(whole.box, scaled.box, atol=15)  # of 1000: crops are whole pixels of 120
