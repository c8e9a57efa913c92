"""Drawn pictures: the same bytes for the same seed, and truths that are exactly those of the mask."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets_vision.formats import voc
from datasets_vision.formats.contract import Source
from datasets_vision.synthetic import GOOD, KINDS, OBJECTS, SURFACES, object_scene, scenes, surface_scene, write_set

WORLDS = ("starter", "quickstart")
DOMAINS = ("product_defects", "object_identification")
KIND_CASES = [(world, kind) for world in WORLDS for kind in (GOOD, *KINDS[world])]
OBJECT_CASES = [(world, kind) for world in WORLDS for kind in OBJECTS[world]]


def check(scene, world):
    height, width = scene.mask.shape
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == scene.mask.dtype == np.uint8
    assert set(np.unique(scene.mask)) - {0} == set(range(1, len(scene.objects) + 1))
    for index, thing in enumerate(scene.objects, start=1):
        rows, columns = np.nonzero(scene.mask == index)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert thing.box[2] <= width
        assert thing.box[3] <= height
    assert scene.label == GOOD or scene.label in {thing.name for thing in scene.objects}


@pytest.mark.parametrize(("world", "kind"), KIND_CASES)
def test_defects_are_where_the_mask_says(world, kind):
    for seed in range(4):
        scene = surface_scene(np.random.default_rng(seed), 192, world, kind)
        check(scene, world)
        assert scene.surface in SURFACES[world]
        assert {thing.name for thing in scene.objects} <= {kind}
        assert (scene.label == GOOD) == (not scene.objects)


@pytest.mark.parametrize(("world", "kind"), OBJECT_CASES)
def test_objects_are_where_the_mask_says(world, kind):
    for seed in range(2):
        scene = object_scene(np.random.default_rng(seed), 192, world, kind)
        check(scene, world)
        assert {thing.name for thing in scene.objects} <= set(OBJECTS[world])


def test_a_defect_shows_in_the_picture():
    """Its pixels differ from the surface about them by more than the surface varies, in most drawings."""
    shows = []
    for seed in range(12):
        scene = surface_scene(np.random.default_rng(seed), 192, "quickstart", "chip")
        under, about = scene.image[scene.mask > 0].astype(float), scene.image[scene.mask == 0].astype(float)
        shows.append(np.abs(under.mean(0) - about.mean(0)).max() > 10)  # of 255 grey levels
    assert sum(shows) >= 10


@pytest.mark.parametrize("what", ["surfaces", "kinds", "objects"])
def test_the_worlds_share_nothing(what):
    table = {"surfaces": SURFACES, "kinds": KINDS, "objects": OBJECTS}[what]
    assert not set(table["starter"]) & set(table["quickstart"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_class_comes_as_often(domain):
    names = [GOOD, *KINDS["quickstart"]] if domain == "product_defects" else [*OBJECTS["quickstart"]]
    drawn = list(scenes(domain, 2 * len(names), 5, "quickstart", 96))
    assert len(drawn) == 2 * len(names)
    if domain == "product_defects":
        assert [scene.label for scene in drawn] == names * 2


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("world", WORLDS)
def test_a_set_is_the_same_bytes_again(tmp_path: Path, domain, world):
    first, second, other = (
        write_set(domain, tmp_path / str(i), 6, seed, world, 96) for i, seed in enumerate((3, 3, 4))
    )
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 3 * 6 + 2  # and the table of classes, and the marker
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)
    assert any((first / path).read_bytes() != (other / path).read_bytes() for path in files)


def test_the_voc_loader_reads_a_set(tmp_path: Path):
    folder = write_set("product_defects", tmp_path, 12, 0, "quickstart")
    found = list(voc.read(Source(path=folder)))
    assert len(found) == 12
    for example, scene in zip(
        sorted(found, key=lambda e: e.id), scenes("product_defects", 12, 0, "quickstart"), strict=True
    ):
        assert np.array_equal(np.asarray(Image.open(example.images[0])), scene.image)
        assert [thing.name for thing in example.label.objects] == [thing.name for thing in scene.objects]
