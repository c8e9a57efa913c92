"""labelme: one JSON per image, with every shape that labelme draws."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.formats import detect
from tests.datasets_vision.made import SQUARE, SQUARE_BOX, objects, only, photo, reading, real_set, reasons, write_json
from vlm_ft.errors import DataError


def shape(kind: str | None = "polygon", points: Any = SQUARE, label: str = "dent", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def content(*shapes: Any, **changes: Any) -> dict[str, Any]:
    stated = {"imagePath": "..\\images\\a.png", "imageData": None, "imageHeight": 50, "imageWidth": 100}
    return {"version": "5.0.1", "flags": {}, "shapes": list(shapes), **stated, **changes}


def write(root: Path, *shapes: Any, **changes: Any) -> Path:
    photo(root / "train/images/a.png")
    return write_json(root / "train/labels/a.json", content(*shapes, **changes))


@pytest.mark.parametrize(
    ("given", "box", "attributes"),
    [
        (shape(), SQUARE_BOX, {"polygon": [[100, 100], [300, 100], [300, 500], [100, 500]]}),
        (shape(None), SQUARE_BOX, {"polygon": [[100, 100], [300, 100], [300, 500], [100, 500]]}),
        (shape("rectangle", [[30, 25], [10, 5]]), SQUARE_BOX, {}),  # drawn from any corner
        (shape("rectangle"), SQUARE_BOX, {}),  # four corners since version 5.6
        (shape("circle", [[20, 15], [20, 5]]), SQUARE_BOX, {}),
        (shape("point", [[20, 15]]), None, {"point": [200, 300]}),
        (shape("line", [[10, 5], [30, 25]]), SQUARE_BOX, {"line": [[100, 100], [300, 500]]}),
        (shape("linestrip", [[10, 5], [10, 25], [30, 25]]), SQUARE_BOX, {"line": [[100, 100], [100, 500], [300, 500]]}),
        (shape("mask", [[10, 5], [30, 25]], mask="x"), SQUARE_BOX, {}),
        (
            shape("rectangle", [[10, 5], [30, 25]], flags={"deep": True, "old": False}, group_id=2, description="rim"),
            SQUARE_BOX,
            {"deep": True, "group": 2, "description": "rim"},
        ),
    ],
)
def test_every_shape_has_its_box(tmp_path, given, box, attributes):
    path = write(tmp_path, given)
    assert detect(tmp_path) == "labelme"
    example = only(reading(tmp_path))
    (obj,) = example.label.objects
    assert (obj.name, obj.box, obj.attributes) == ("dent", box, attributes)
    assert (example.id, example.role, example.source) == ("train/images/a", "train", str(path))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (shape(points=[[1, 1], [9, 9]]), "polygon of 2 points"),
        (shape(points=[]), "has no points"),
        (shape(points=None), "is not a list of points"),
        (shape(points=[[1, 1], [9], [3, 3]]), "is not two numbers"),
        (shape(points=[[1, 1], [9, float("nan")], [3, 3]]), "is not two numbers"),
        (shape(points=[[1, 1], [9, True], [3, 3]]), "is not two numbers"),
        (shape(points=[[1, 1], [9, 90], [3, 3]]), "lies outside the image 100x50"),
        (shape("rectangle", [[-20, 5], [10, 25]]), "lies outside"),
        (shape("rectangle", [[10, 5], [10, 25]]), "has no area"),
        (shape("circle", [[20, 15]]), "is a circle of 1 points"),
        (shape("blob"), "is a blob of 4 points"),
        (shape(label=" "), "without a label"),
        ("shape", "without a label"),
    ],
)
def test_a_bad_shape_is_set_aside_and_the_image_stays(tmp_path, bad, says):
    path = write(tmp_path, shape(), bad)
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert reasons(found).startswith(f"{path}: shapes[1]: ")
    assert says in reasons(found)


def test_no_objects_differs_from_unlabelled(tmp_path):
    write(tmp_path, flags={"blurred": True, "night": False})
    label = reading(tmp_path).examples[0].label
    assert (label.objects, label.columns) == ((), {"blurred": True, "night": False})
    write(tmp_path, shape(points=[]))
    assert reading(tmp_path).examples[0].label.objects is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b'{"shapes": [],\n"imagePath": ', "b.json:2: not JSON"),
        (b'{"shapes": [], "imagePath": "\xe4.png"}', "not UTF-8"),
        (b'{"shapes": {}, "imagePath": "b.png"}', "has no list of shapes"),
        (b"{}", "has no list of shapes"),
        (json.dumps(content(imagePath="c.png")).encode(), "its image 'c.png' is missing"),
        (json.dumps(content(imageWidth=50, imageHeight=100)).encode(), "states 50x100, but its image is 100x50"),
        (json.dumps(content()).encode(), "is already used by"),
    ],
)
def test_one_bad_file_among_good_ones_is_set_aside(tmp_path, data, says):
    write(tmp_path, shape())
    (tmp_path / "train/labels/b.json").write_bytes(data)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["train/images/a"]
    assert "b.json" in found.set_aside[0].place
    assert says in reasons(found)


def test_an_image_is_found_by_the_name_of_the_file_beside_it(tmp_path):
    photo(tmp_path / "b.JPG")
    write_json(tmp_path / "b.json", content(shape(), imagePath="C:\\photos\\old name.jpg"))
    assert [example.id for example in reading(tmp_path).examples] == ["b"]


def test_the_folder_of_files_finds_the_images_next_to_it(tmp_path):
    write(tmp_path, shape())
    assert [example.id for example in reading(tmp_path / "train/labels").examples] == ["images/a"]


def test_a_folder_without_files_is_reported(tmp_path):
    photo(tmp_path / "a.png")
    with pytest.raises(DataError, match="no labelme JSON found"):
        reading(tmp_path, format="labelme")


def test_a_real_set_has_its_stated_counts():
    found = real_set("product_defects/bsdata_labelme")
    assert Counter(example.role for example in found.examples) == {"train": 128, "val": 22}
    assert Counter(name for example in found.examples for name, _ in objects(example)) == {"Pitting": 188}
    assert found.set_aside == ()
