"""COCO: boxes, polygons and masks agree with their images, or are set aside with their place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.formats import detect
from datasets_vision.source import Source, read
from tests.datasets_vision.made import (
    DATA,
    SQUARE,
    SQUARE_BOX,
    objects,
    only,
    photo,
    reading,
    real_set,
    reasons,
    write_json,
)
from vlm_ft.errors import DataError

RING = [side for point in SQUARE for side in point]
BOX = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 20], "iscrowd": 0, "area": 400}


def content(*annotations: Any, **changes: Any) -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}],
        "annotations": list(annotations),
        "categories": [{"id": 3, "name": "dent", "supercategory": "damage"}, {"id": 5, "name": " "}],
        **changes,
    }


def write(root: Path, *annotations: Any, **changes: Any) -> Path:
    photo(root / "train/a.png")
    return write_json(root / "annotations/instances_train.json", content(*annotations, **changes))


def test_boxes_are_scaled_to_the_image(tmp_path):
    path = write(tmp_path, {**BOX, "severity": "minor", "attributes": {"side": "left"}})
    assert detect(tmp_path) == "coco"
    example = only(reading(tmp_path))
    assert objects(example) == [("dent", SQUARE_BOX)]
    assert example.label.objects[0].attributes == {"severity": "minor", "side": "left"}
    assert (example.id, example.role, example.source) == ("train/a", "train", f"{path}: images[0]")


@pytest.mark.parametrize("ring", [[RING], RING, [[*RING, *RING[:2]]]])
def test_a_polygon_bounds_its_box(tmp_path, ring):
    write(tmp_path, {**BOX, "bbox": [0, 0, 1, 1], "segmentation": ring})
    (obj,) = reading(tmp_path).examples[0].label.objects
    assert obj.box == SQUARE_BOX
    assert obj.attributes["polygon"] == [[100, 100], [300, 100], [300, 500], [100, 500]]


def test_pieces_share_one_box(tmp_path):
    write(tmp_path, {**BOX, "segmentation": [RING, [50, 40, 52, 40, 52, 42]]})
    (obj,) = reading(tmp_path).examples[0].label.objects
    assert obj.box == (100, 100, 520, 840)
    assert obj.attributes["polygon"][0] == [100, 100]
    assert len(obj.attributes["polygons"]) == 2


def test_run_lengths_become_a_box_and_a_polygon(tmp_path):
    import numpy as np
    from supervision import mask_to_rle

    grid = np.zeros((50, 100), dtype=bool)
    grid[5:25, 10:30] = True
    for compressed in (False, True):
        mask = {"size": [50, 100], "counts": mask_to_rle(grid, compressed=compressed)}
        write(tmp_path, {**BOX, "iscrowd": 1, "segmentation": mask})
        (obj,) = reading(tmp_path).examples[0].label.objects
        assert obj.box == SQUARE_BOX
        assert obj.attributes["iscrowd"] is True
        assert len(obj.attributes["polygon"]) == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bbox": [-9, 5, 20, 20]}, "'dent' box -9, 5, 11, 25 lies outside the image 100x50"),
        ({"bbox": [10, 5, 0, 20]}, "has no area"),
        ({"bbox": [10, 5, "wide", 20]}, "is not four numbers"),
        ({"bbox": None}, "no bbox and no segmentation"),
        ({"category_id": 4}, "category_id 4 is not a category"),
        ({"category_id": [3]}, "is not a category"),
        ({"category_id": 5}, "category 5 has no name; write it in categories"),
        ({"image_id": 8}, "image_id 8 is not in the list of images"),
        ({"id": 1}, "id 1 is already used by annotations[0]"),
        ({"id": None}, "without an id"),
        ({"segmentation": [[1, 1, 5, 5]]}, "polygon of 2 points"),
        ({"segmentation": [[1, 1, 5, 5, 9]]}, "5 numbers"),
        ({"segmentation": [[1, 1, 500, 5, 9, 9]]}, "lies outside"),
        ({"segmentation": [[]]}, "polygon of 0 points"),
        ({"segmentation": {"size": [5, 5], "counts": [25]}}, "mask is 5x5"),
        ({"segmentation": {"size": [50, 100], "counts": [5, 9]}}, "do not fill 100x50"),
        ({"segmentation": {"size": [50, 100], "counts": [5000]}}, "mask is empty"),
        ({"segmentation": {"size": [50, 100], "counts": "~~~"}}, "do not fill 100x50"),
    ],
)
def test_a_bad_annotation_is_set_aside_and_the_image_stays(tmp_path, change, says):
    path = write(tmp_path, BOX, {**BOX, "id": 2, **change})
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert says in reasons(found)
    assert reasons(found).startswith(f"{path}: annotations[1]: ")
    assert len(found.set_aside) == 1


def test_no_objects_differs_from_unlabelled(tmp_path):
    write(tmp_path)
    assert reading(tmp_path).examples[0].label.objects == ()
    write(tmp_path, {**BOX, "category_id": 9})
    assert reading(tmp_path).examples[0].label.objects is None


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({"file_name": "../photos/c.png"}, "its image '../photos/c.png' is missing"),
        ({"file_name": "phone.HEIC"}, "its image 'phone.HEIC' is missing; convert it to JPEG or PNG"),
        ({"file_name": ""}, "names no image"),
        (
            {"file_name": "b.png", "width": 50, "height": 100},
            "states 50x100, but its image is 100x50; if its EXIF orientation rotates it",
        ),
        ({"file_name": "b.png", "id": 7}, "id 7 is already used by images[0]"),
        ({"file_name": "a.png"}, "is already used by"),
        ({"file_name": "broken.png"}, "0 bytes"),
    ],
)
def test_a_bad_image_among_good_ones_is_set_aside(tmp_path, image, says):
    images = [*content()["images"], {"id": 8, **image}]
    photo(tmp_path / "train/b.png")
    (tmp_path / "train/broken.png").touch()
    write(tmp_path, BOX, images=images)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["train/a"]
    assert says in reasons(found)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b'{"images": [{"file_name": "a.png"}],\n "annotations": [', ":2: not JSON"),
        (b'{"images": [{"file_name": "\xff.png"}]}', "not UTF-8: byte 0xff"),
        (b'{"images": [{"file_name": "a.png", "file_name": "b.png"}]}', "'file_name' appears twice"),
        (b'{"images": {"file_name": "a.png"}}', "images is not a list"),
        (b'{"images": [], "annotations": [{"bbox": "\\ud83d"}]}', "half of a surrogate pair"),
        (b"{}", "has no list of images"),
        (b'{"info": ' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "is not a JSON object"),
        (b'{"images": []} {"bbox": 1}', ":1: not JSON .more text after the end"),
        (b'{"images": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_file_is_reported(tmp_path, data, says):
    photo(tmp_path / "a.png")
    path = tmp_path / "coco.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        reading(path, format="coco")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ('"\\ud83d"', "half of a surrogate pair"),
        ("[1, Infinity]", "is infinite"),
        ("1e999", "is infinite"),
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ("9" * 5000, "digits"),
    ],
)
def test_an_unusable_entry_leaves_the_others(tmp_path, note, says):
    """A bad image leaves the other image; a bad annotation leaves its image, whose objects are then unlabelled."""
    photo(tmp_path / "train/b.png")
    images = [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png", "note": "*"}]
    faulty = {**BOX, "id": 2, "note": "*"}
    path = write(tmp_path, faulty, {**BOX, "id": 3, "image_id": 8}, images=images, info={"note": "*"})
    path.write_text(path.read_text().replace('"*"', note))
    found = reading(tmp_path)
    assert [(example.id, example.label.objects) for example in found.examples] == [("train/a", None)]
    assert [entry.place for entry in found.set_aside[:2]] == [f"{path}: annotations[0]", f"{path}: images[1]"]
    assert all(says in entry.reason for entry in found.set_aside[:2])


def test_each_file_is_a_split_and_finds_its_own_images(tmp_path):
    for role in ("train2017", "val2017"):
        photo(tmp_path / role / "a.png")
        write_json(tmp_path / f"annotations/instances_{role}.json", content(BOX))
    found = reading(tmp_path)
    assert {example.id: example.role for example in found.examples} == {"train2017/a": "train", "val2017/a": "val"}
    assert found.set_aside == ()


def test_an_image_of_another_split_is_not_found(tmp_path):
    path = write(tmp_path, BOX)
    (tmp_path / "train/a.png").unlink()
    photo(tmp_path / "val/a.png")
    with pytest.raises(DataError, match=r"its image 'a\.png' is missing"):
        reading(path, image_folder=tmp_path)


def test_two_images_with_the_same_name_need_a_path(tmp_path):
    for folder in ("left", "right"):
        photo(tmp_path / folder / "a.png")
    write_json(tmp_path / "coco.json", content(BOX))
    with pytest.raises(DataError, match=r"is ambiguous: .*left.*right.*write the image's path"):
        reading(tmp_path)
    images = [{"id": 7, "file_name": "right\\a.png"}]
    write_json(tmp_path / "coco.json", content(BOX, images=images))
    assert reading(tmp_path).examples[0].id == "right/a"


def test_images_may_be_in_another_folder(tmp_path):
    photo(tmp_path / "photos/a.png")
    path = write_json(tmp_path / "labels/here/coco.json", content(BOX))
    found = reading(path, image_folder=tmp_path / "photos")
    assert [example.id for example in found.examples] == ["a"]
    with pytest.raises(DataError, match="no such folder of images"):
        reading(path, image_folder=tmp_path / "absent")


def test_a_real_set_has_its_stated_counts():
    found = real_set("scan_abnormalities/bone_marrow_coco_via")
    assert (len(found.examples), sum(len(objects(example)) for example in found.examples)) == (32, 113)
    assert [Path(item.place).name for item in found.set_aside] == ["via_train.json"]
    assert {example.role for example in found.examples} == {"train"}
    glosses = json.loads((DATA / "scan_abnormalities/bone_marrow_coco_via/categories_en.json").read_text("utf-8"))
    found = read(Source(path=DATA / "scan_abnormalities/bone_marrow_coco_via", rename=glosses))
    counts = Counter(obj.name for example in found.examples for obj in example.label.objects)
    assert len(counts) == 17
    assert counts["mature lymphocyte"] == 17
    assert counts["neutrophilic metamyelocyte"] == 16


def test_annotations_may_precede_their_images(tmp_path):
    path = write(tmp_path, BOX, {**BOX, "id": 2, "image_id": "7"}, {**BOX, "id": 3, "image_id": True})
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert [entry.place[-15:] for entry in found.set_aside] == [" annotations[2]", " annotations[1]"]
