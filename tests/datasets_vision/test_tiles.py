"""Tiles cover a photo, and tiled labels lose no object; composed scenes have exact boxes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets_vision.compose import compose, write_scenes
from datasets_vision.example import Example, Label, LabelledObject, View, normalised_box
from datasets_vision.images import image_size, open_image
from datasets_vision.source import Source, read
from datasets_vision.tiles import cut, grid, in_pixels, tile_examples
from vlm_ft.errors import DataError


@pytest.mark.parametrize("size", [(4000, 3000), (640, 480), (641, 1000), (300, 2000), (100, 90), (512, 512)])
@pytest.mark.parametrize(("side", "overlap"), [(512, 64), (200, 100), (300, 0)])
def test_tiles_cover_the_whole_photo_and_overlap(size, side, overlap):
    covered = np.zeros(size[::-1], dtype=int)
    tiles = grid(*size, side, overlap)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (min(side, size[0]), min(side, size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.min() == 1 or min(size) <= side
    assert covered.min() >= 1
    for axis in (0, 1):
        starts = sorted({tile[axis] for tile in tiles})
        assert all(second - first <= side - overlap for first, second in pairwise(starts))


def test_an_overlap_of_a_whole_tile_is_refused():
    with pytest.raises(DataError, match="overlap"):
        grid(900, 900, 100, 100)


def photo(folder: Path, boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (1000, 800)) -> Example:
    Image.new("RGB", size, "grey").save(folder / "p.png")
    objects = tuple(LabelledObject("pit", normalised_box(*box, *size)) for box in boxes)
    return Example(
        "p", images=(folder / "p.png",), label=Label("steel", objects, {"severity": "major"}), source="p.xml"
    )


def test_every_object_is_in_a_tile_at_its_position(tmp_path):
    boxes = [(5, 5, 45, 45), (380, 200, 420, 240), (955, 755, 1000, 800), (0, 380, 1000, 420)]
    example = photo(tmp_path, boxes)
    tiles = list(tile_examples(example, (1000, 800), side=400, overlap=80, visible=0.5))
    assert {tile.group for tile in tiles} == {"p"}
    assert len({tile.id for tile in tiles}) == len(tiles)
    found = set()
    for tile in tiles:
        assert tile.label.image_class is None
        assert tile.label.columns == {}
        (view,) = tile.images
        assert isinstance(view, View)
        assert image_size(view) == (400, 400)
        for obj in tile.label.objects or ():
            x0, y0, x1, y1 = in_pixels(obj.box, (400, 400))
            placed = (x0 + view.crop[0], y0 + view.crop[1], x1 + view.crop[0], y1 + view.crop[1])
            found |= {box for box in boxes[:3] if np.abs(np.subtract(box, placed)).max() <= 2}
    assert found == set(boxes[:3])


def test_a_sliver_is_dropped_but_an_object_that_fills_the_tile_is_kept(tmp_path):
    example = photo(tmp_path, [(390, 10, 490, 110), (0, 400, 1000, 800)])
    first, *_ = tile_examples(example, (1000, 800), side=400, overlap=0, visible=0.5)
    assert first.images[0].crop == (0, 0, 400, 400)
    assert first.label.objects == ()
    last = list(tile_examples(example, (1000, 800), side=400, overlap=0, visible=0.5))[-1]
    assert [obj.box for obj in last.label.objects or ()] == [(0, 0, 1000, 1000)]


def test_a_tile_of_a_crop_is_inside_the_crop(tmp_path):
    gradient = np.arange(100 * 100, dtype=np.uint8).reshape(100, 100)
    Image.fromarray(gradient).save(tmp_path / "g.png")
    view = cut(View(tmp_path / "g.png", crop=(10, 20, 90, 90)), (5, 5, 25, 35))
    assert view.crop == (15, 25, 35, 55)
    assert (np.asarray(open_image(view))[..., 0] == gradient[25:55, 15:35]).all()


@pytest.mark.parametrize("label", [Label("steel"), Label(objects=())])
def test_tiling_needs_one_photo_with_labelled_objects(tmp_path, label):
    example = Example(
        "p", images=(tmp_path / "a.png",) * (2 if label.objects == () else 1), label=label, source="p.xml"
    )
    with pytest.raises(DataError, match=r"p\.xml: tiling needs"):
        list(tile_examples(example, (900, 900), 400, 80, 0.5))


def labelled(folder: Path) -> list[Example]:
    """Photos of dark squares on noise, with the lower half free."""
    random = np.random.default_rng(0)
    examples = []
    for index in range(6):
        pixels = random.integers(150, 200, (120, 160, 3), dtype=np.uint8)
        pixels[10:40, 20:60] = 20
        Image.fromarray(pixels).save(folder / f"{index}.png")
        box = normalised_box(20, 10, 60, 40, 160, 120)
        label = Label(objects=(LabelledObject("pit", box),))
        examples.append(Example(str(index), images=(folder / f"{index}.png",), label=label, source=f"{index}.xml"))
    return examples


def test_a_composed_scene_has_exact_boxes(tmp_path):
    scenes = list(compose(labelled(tmp_path), 2, size=(800, 600), photos=5, scale=(0.5, 1.0), seed=3))
    again = list(compose(labelled(tmp_path), 1, size=(800, 600), photos=5, scale=(0.5, 1.0), seed=3))
    assert (scenes[0].image == again[0].image).all()
    for scene in scenes:
        assert scene.image.shape == (600, 800, 3)
        assert len(scene.objects) == 5
        dark = scene.image.max(axis=2) < 90
        for obj in scene.objects:
            left, top, right, bottom = obj.box
            assert dark[top + 2 : bottom - 2, left + 2 : right - 2].all()
            dark[top - 2 : bottom + 2, left - 2 : right + 2] = False
        assert dark.mean() < 0.001  # nothing dark lies outside the boxes: the background shows no labelled object


def test_scenes_are_read_back_as_voc(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "scenes"
    photos.mkdir()
    made = list(compose(labelled(photos), 2, size=(500, 400), photos=3))
    assert write_scenes(out, iter(made)) == 2
    found = read(Source(path=out))
    assert found.set_aside == ()
    assert [len(example.label.objects or ()) for example in found.examples] == [len(scene.objects) for scene in made]
    first = found.examples[0].label.objects or ()
    exact = normalised_box(*made[0].objects[0].box, 500, 400)
    assert np.abs(np.subtract(first[0].box, exact)).max() <= 3  # a pixel: the standard counts from 1, the reader from 0
    with pytest.raises(DataError, match="not empty"):
        write_scenes(out, iter(made))


@pytest.mark.parametrize(
    ("examples", "options", "reason"),
    [
        ([], {}, "no example has exactly one photo and boxes"),
        (None, {"scale": (1.0, 0.5)}, "invalid scale range 1.0 to 0.5"),
        (None, {"size": (100, 90)}, "does not fit into a scene"),
    ],
)
def test_scenes_that_cannot_be_composed_are_reported(tmp_path, examples, options, reason):
    given = labelled(tmp_path) if examples is None else examples
    with pytest.raises(DataError, match=reason):
        list(compose(given, 1, **{"scale": (1.0, 1.0), **options}))
