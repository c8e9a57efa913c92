"""VIA 1 and 2: every shape, the attribute that names it, and the parts on which damage lies."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.formats import detect
from datasets_vision.formats.via import PART_SHARE
from tests.datasets_vision.made import SQUARE_BOX, objects, only, photo, reading, real_set, reasons, write_json
from vlm_ft.errors import DataError

NAMED = {"name": "damage"}


def rect(left: float, top: float, width: float, height: float) -> dict[str, Any]:
    return {"name": "rect", "x": left, "y": top, "width": width, "height": height}


def polygon(*points: tuple[float, float]) -> dict[str, Any]:
    return {"name": "polygon", "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}


SQUARE = rect(10, 5, 20, 20)


def region(shape: Any, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes or NAMED}


def entry(name: str, *regions: Any, **more: Any) -> dict[str, Any]:
    return {f"{name}123": {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}, **more}}


def write(root: Path, *regions: Any, name: str = "via_region_data.json") -> Path:
    photo(root / "a.png")
    return write_json(root / name, entry("a.png", *regions))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda entries: entries,
        lambda entries: {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}},
        lambda entries: {
            key: {**given, "regions": dict(enumerate(given["regions"]))} for key, given in entries.items()
        },
    ],
    ids=["version 2", "a project", "version 1"],
)
def test_both_versions_give_the_same_example(tmp_path, wrap):
    photo(tmp_path / "train/a.png")
    path = write_json(tmp_path / "train/via_region_data.json", wrap(entry("a.png", region(SQUARE))))
    assert detect(tmp_path) == "via"
    example = only(reading(tmp_path))
    assert objects(example) == [("damage", SQUARE_BOX)]
    assert (example.id, example.role, example.source) == ("train/a", "train", f"{path}: a.png123")


@pytest.mark.parametrize(
    ("shape", "box", "attributes"),
    [
        (SQUARE, SQUARE_BOX, {}),
        (polygon((10, 5), (30, 5), (30, 25)), SQUARE_BOX, {"polygon": [[100, 100], [300, 100], [300, 500]]}),
        ({"name": "circle", "cx": 20, "cy": 15, "r": 10}, SQUARE_BOX, {}),
        ({"name": "circle", "cx": 0, "cy": 15, "r": 10}, (0, 100, 100, 500), {}),
        ({"name": "ellipse", "cx": 20, "cy": 15, "rx": 10, "ry": 10, "theta": 0.7}, SQUARE_BOX, {}),
        ({"name": "ellipse", "cx": 20, "cy": 15, "rx": 10, "ry": 5}, (100, 200, 300, 400), {}),
        ({"name": "point", "cx": 20, "cy": 15}, None, {"point": [200, 300]}),
        ({**polygon((10, 5), (30, 25)), "name": "polyline"}, SQUARE_BOX, {"line": [[100, 100], [300, 500]]}),
        ({**polygon((10, 5), (30, 5)), "name": "polyline"}, (100, 100, 300, 101), {"line": [[100, 100], [300, 100]]}),
        (polygon((-1, 5), (30, 5), (30, 25)), (0, 100, 300, 500), {"polygon": [[0, 100], [300, 100], [300, 500]]}),
    ],
)
def test_every_shape_has_its_box(tmp_path, shape, box, attributes):
    write(tmp_path, region(shape))
    (obj,) = reading(tmp_path).examples[0].label.objects
    assert (obj.box, obj.attributes) == (box, attributes)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (region(polygon((1, 1), (9, 9))), "polygon of 2 points"),
        (region(polygon((1, 1), (9, 9), (1, 1))), "polygon of 2 points"),
        (region({**polygon((1, 1), (9, 9)), "all_points_x": [1]}), "has 1 x and 2 y"),
        (region({"name": "polygon"}), "'damage' all_points_x None is not a row of numbers"),
        (region(polygon((1, 1), (900, 1), (9, 9))), "lies outside the image 100x50"),
        (region(rect(-30, 5, 20, 20)), "lies outside"),
        (region(rect(10, 5, -20, 20)), "has no area"),
        (region({"name": "circle", "cx": 500, "cy": 5, "r": 3}), "lies outside"),
        (region({"name": "circle", "cx": 50, "cy": 5, "r": "big"}), "is not two numbers"),
        (region({"name": "point", "cx": 50, "cy": -9}), "lies outside"),
        (region({"name": "star"}), "'star' is not a VIA shape"),
        (region(None), "without shape_attributes"),
        (region(SQUARE, colour="red"), "no attribute 'name'; known: colour"),
        ("region", "without shape_attributes"),
    ],
)
def test_a_bad_region_is_set_aside_and_the_image_stays(tmp_path, bad, says):
    path = write(tmp_path, region(SQUARE), region(SQUARE), bad)
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("damage", SQUARE_BOX)] * 2
    assert reasons(found).startswith(f"{path}: a.png123 regions[2]: ")
    assert says in reasons(found)


@pytest.mark.parametrize(
    ("regions", "options", "names"),
    [
        ([{"Class Name": "dent"}], {}, ["dent"]),
        (
            [{"super_type": "s", "type": "dent"}, {"super_type": "s", "type": "crack", "name": "x"}],
            {},
            ["dent", "crack"],
        ),
        ([{"width": "3", "depth": "1"}, {"width": "4", "depth": "1"}], {}, ["3", "4"]),
        ([{"type": "dent", "grade": "b"}], {"named_by": "grade"}, ["b"]),
        ([{"class": {"dent": True, "crack": False}}], {}, ["dent"]),
        ([{"class": {"dent": True, "crack": True}}], {}, ["dent+crack"]),
        ([{}], {"rename": {"": "scratch"}}, ["scratch"]),
    ],
)
def test_a_region_is_named_by_its_attribute(tmp_path, regions, options, names):
    photo(tmp_path / "a.png")
    given = [{"shape_attributes": SQUARE, "region_attributes": attributes} for attributes in regions]
    write_json(tmp_path / "via.json", entry("a.png", *given))
    found = reading(tmp_path, **options)
    assert [name for name, _ in objects(found.examples[0])] == names
    assert found.set_aside == ()


def test_regions_without_attributes_need_a_name(tmp_path):
    photo(tmp_path / "a.png")
    write_json(tmp_path / "via.json", entry("a.png", {"shape_attributes": SQUARE, "region_attributes": {}}))
    found = reading(tmp_path)
    assert found.examples[0].label.objects is None
    assert """name such regions with rename: {"": ...}""" in reasons(found)


def test_an_image_without_regions_has_no_objects_and_file_attributes_are_columns(tmp_path):
    photo(tmp_path / "a.png")
    given = {"caption": "left side", "view": {"front": True, "rear": False}, "note": ""}
    write_json(tmp_path / "via.json", entry("a.png", file_attributes=given))
    label = reading(tmp_path).examples[0].label
    assert (label.objects, label.columns) == ((), {"caption": "left side", "view": "front"})


def shares(root: Path, damage: Any, *parts: tuple[str, Any]) -> list[Any]:
    write(root, region(damage))
    write(root, *(region(shape, name=name) for name, shape in parts), name="via_multiclass_parts.json")
    found = reading(root)
    assert found.set_aside == ()
    return [obj.attributes.get("part") for obj in found.examples[0].label.objects]


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (rect(10, 10, 10, 10), "door"),
        (rect(32, 10, 20, 10), "hood"),  # 8 of 20 in the door, 12 in the hood
        (rect(25, 10, 20, 10), "door"),
        (rect(70, 20, 5, 5), "handle"),  # wholly in both the hood and the handle, of which the handle is smaller
        (rect(10, 28, 10, 20), None),  # 2 of 20 in the door
        (rect(88, 40, 10, 8), None),
        (polygon((10, 10), (20, 10), (20, 20), (10, 20)), "door"),
        ({"name": "circle", "cx": 20, "cy": 20, "r": 5}, "door"),
        ({"name": "point", "cx": 20, "cy": 20}, None),
    ],
)
def test_damage_is_on_the_part_that_covers_most_of_it(tmp_path, damage, part):
    door, handle = rect(0, 0, 40, 30), rect(68, 18, 10, 10)
    hood = polygon((40, 0), (85, 0), (85, 30), (40, 30))
    assert shares(tmp_path, damage, ("door", door), ("hood", hood), ("handle", handle)) == [part]


def test_a_share_below_the_limit_gives_no_part(tmp_path):
    part = ("door", rect(0, 0, 50, 50))
    for share, expected in ((PART_SHARE * 0.8, None), (PART_SHARE * 1.2, "door")):
        assert shares(tmp_path, rect(50 - 40 * share, 5, 40, 20), part) == [expected]


def test_parts_without_damage_and_bad_parts_are_reported(tmp_path):
    photo(tmp_path / "b.png")
    write(tmp_path, region(SQUARE))
    parts = entry("a.png", region(polygon((1, 1), (9, 9)), name="door")) | entry("b.png") | entry("c.png")
    path = write_json(tmp_path / "via_multiclass_parts.json", parts)
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("damage", SQUARE_BOX)]
    assert reasons(found).splitlines() == [
        f"{path}: a.png123 regions[0]: 'door' polygon of 2 points; a polygon needs three",
        f"{path}: c.png123: its image 'c.png' is missing; put it beside the annotations",
        f"{path}: b.png123: has parts, but the other file does not list this image",
    ]


def test_the_parts_can_be_read_on_their_own(tmp_path):
    write(tmp_path, region(SQUARE))
    path = write(tmp_path, region(SQUARE, name="door"), name="via_multiclass_parts.json")
    assert objects(reading(path).examples[0]) == [("door", SQUARE_BOX)]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: write_json(root / "b.json", entry("c.png")), "b.json: c.png123: its image 'c.png' is missing"),
        (lambda root: write_json(root / "b.json", entry("a.png")), "is already used by"),
        (lambda root: write_json(root / "b.json", entry("")), "names no image"),
        (
            lambda root: (root / "b.json").write_text('{"x": {"filename": "a.png", "regions": [], }'),
            "b.json:1: not JSON",
        ),
        (
            lambda root: (root / "b.json").write_text('{"x": {"filename": 1, "regions": []}, "x": {}}'),
            "'x' appears twice",
        ),
        (lambda root: write_json(root / "b.json", {**entry("a.png"), "c": 3}), "not a VIA file"),
    ],
)
def test_one_bad_file_among_good_ones_is_set_aside(tmp_path, spoil, says):
    write(tmp_path, region(SQUARE), name="a.json")
    spoil(tmp_path)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["a"]
    assert says in reasons(found)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_a_file_of_another_kind_is_reported(tmp_path, data):
    (tmp_path / "via.json").write_bytes(data)
    with pytest.raises(DataError, match=r"via\.json: "):
        reading(tmp_path / "via.json", format="via")


def test_a_set_of_damage_and_parts_has_its_stated_counts():
    found = real_set("car_damage/via2_damage_parts")
    assert Counter(example.role for example in found.examples) == {"train": 42, "val": 5}
    labelled = [(example.role, obj) for example in found.examples for obj in example.label.objects]
    assert Counter((role, obj.name) for role, obj in labelled) == {("train", "damage"): 106, ("val", "damage"): 8}
    parts = Counter(obj.attributes.get("part") for _, obj in labelled)
    assert set(parts) == {None, "door", "front_bumper", "rear_bumper", "hood", "headlamp"}
    assert found.set_aside == ()


def test_a_set_of_version_1_has_its_stated_counts():
    found = real_set("car_damage/via1_scratch")
    assert Counter(example.role for example in found.examples) == {"train": 30, "val": 8}
    assert Counter(example.role for example in found.examples for _ in objects(example)) == {"train": 39, "val": 10}
    assert found.set_aside == ()


def test_coco_and_via_give_the_same_regions():
    name = "scan_abnormalities/bone_marrow_coco_via"
    via = real_set(f"{name}/annotations/via_train.json")
    coco = real_set(f"{name}/annotations/coco_train.json")
    assert via.set_aside == coco.set_aside == ()
    boxes = [{example.id: objects(example) for example in found.examples} for found in (via, coco)]
    assert {key: len(value) for key, value in boxes[0].items()} == {key: len(value) for key, value in boxes[1].items()}
    for key, labelled in boxes[0].items():
        for (one, box), (other, near) in zip(sorted(labelled), sorted(boxes[1][key]), strict=True):
            assert one == other
            assert max(abs(a - b) for a, b in zip(box, near, strict=True)) <= 3  # one file has only whole pixels
    assert [example.id for example in real_set(name, format="via").examples] == list(boxes[0])


def test_key_paths_stop_at_the_first_part(tmp_path):
    long = {f"{number}.png": {"filename": "a.png", "regions": []} for number in range(5000)}
    path = tmp_path / "via.json"
    path.write_text(json.dumps(long))
    assert detect(tmp_path) == "via"
    path.write_text('{"a": {"filename": "' + '\\"' * 50_000)  # an unterminated string, full of quotes
    with pytest.raises(DataError, match=r"unknown format \(|not JSON"):
        reading(tmp_path)
