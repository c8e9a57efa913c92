"""CVAT for images: shapes, tags and attributes, and the line of each element that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets_vision.formats import detect
from tests.datasets_vision.made import SQUARE_BOX, objects, only, photo, reading, reasons
from vlm_ft.errors import DataError

BOX = '<box label="dent" occluded="0" xtl="10" ytl="5" xbr="30" ybr="25"/>'
POINTS = 'points="10,5;30,5;30,25;10,25"'
BOMB = """<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<annotations><meta/><image name="&b;"/></annotations>"""


def image(*parts: str, name: str = "a.png", **more: str) -> str:
    stated = {"name": name, "width": "100", "height": "50", **more}
    said = " ".join(f'{key}="{value}"' for key, value in stated.items())
    return "\n".join([f"<image {said}>", *parts, "</image>"])


def write(root: Path, *images: str) -> Path:
    photo(root / "images/train/a.png")
    path = root / "annotations.xml"
    meta = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task/></meta>'
    path.write_text("\n".join([meta, *images, "</annotations>"]))
    return path


@pytest.mark.parametrize(
    ("part", "box", "attributes"),
    [
        (BOX, SQUARE_BOX, {}),
        (BOX.replace("/>", ' rotation="180"/>'), SQUARE_BOX, ["polygon"]),
        (BOX.replace('occluded="0"', 'occluded="1"'), SQUARE_BOX, {"occluded": True}),
        (
            BOX.replace("/>", '><attribute name="depth">deep</attribute><attribute name="old">True</attribute></box>'),
            SQUARE_BOX,
            {"depth": "deep", "old": True},
        ),
        (f'<polygon label="dent" {POINTS}/>', SQUARE_BOX, ["polygon"]),
        (f'<polyline label="dent" {POINTS}/>', SQUARE_BOX, ["line"]),
        ('<points label="dent" points="20,15"/>', None, {"point": [200, 300]}),
        ('<ellipse label="dent" cx="20" cy="15" rx="10" ry="10"/>', SQUARE_BOX, {}),
        ('<mask label="dent" rle="1" left="10" top="5" width="20" height="20"/>', SQUARE_BOX, {}),
    ],
)
def test_every_shape_has_its_box(tmp_path, part, box, attributes):
    path = write(tmp_path, image(part))
    assert detect(tmp_path) == "cvat"
    example = only(reading(tmp_path))
    (obj,) = example.label.objects
    assert (obj.name, obj.box) == ("dent", box)
    assert (list(obj.attributes) if isinstance(attributes, list) else obj.attributes) == attributes
    assert (example.id, example.role, example.source) == ("images/train/a", "train", f"{path}:5")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (BOX.replace("xtl", "left"), "is not four numbers"),
        (BOX.replace('xtl="10"', 'xtl="-10"'), "'dent' box -10, 5, 30, 25 lies outside the image 100x50"),
        (BOX.replace('xbr="30"', 'xbr="10"'), "has no area"),
        (BOX.replace("dent", ""), "without a label"),
        ('<polygon label="dent" points="1,1;9,9"/>', "polygon of 2 points"),
        ('<polygon label="dent" points="1,1;9;9,9"/>', "is not two numbers"),
        ('<polygon label="dent"/>', "polygon of 0 points"),
        ('<points label="dent" points="1,1;2,2"/>', "is a <points>; redraw it"),
        ('<skeleton label="dent"/>', "is a <skeleton>"),
        ("<cuboid/>", "a <cuboid> without a label"),
        ('<mask label="dent" left="10"/>', "is not four numbers"),
    ],
)
def test_a_bad_shape_is_set_aside_by_its_line(tmp_path, bad, says):
    path = write(tmp_path, image(BOX, bad))
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert reasons(found).startswith(f"{path}:7: ")
    assert says in reasons(found)


def test_a_tag_is_the_images_class_and_its_attributes_are_columns(tmp_path):
    tag = '<tag label="car"><attribute name="side">left</attribute><attribute name="plate"></attribute></tag>'
    path = write(tmp_path, image(tag, '<tag label="van"/>', subset="Validation"))
    found = reading(tmp_path)
    (example,) = found.examples
    label = example.label
    assert (label.image_class, label.columns, label.objects) == ("car", {"side": "left"}, ())
    assert example.role == "Validation"
    assert reasons(found) == f"{path}:7: a second tag 'van' for one image; give one class"


def test_no_objects_differs_from_unlabelled(tmp_path):
    write(tmp_path, image())
    assert reading(tmp_path).examples[0].label.objects == ()
    write(tmp_path, image(BOX.replace("dent", "")))
    assert reading(tmp_path).examples[0].label.objects is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (image(name="c.png"), "its image 'c.png' is missing"),
        (image(name=""), "names no image"),
        (image(), "is already used by"),
        (image(name="b.png", width="50", height="100"), "states 50x100, but its image is 100x50"),
        (image(name="broken.png"), "0 bytes"),
    ],
)
def test_a_bad_image_among_good_ones_is_set_aside(tmp_path, bad, says):
    photo(tmp_path / "images/train/b.png")
    (tmp_path / "images/train/broken.png").touch()
    path = write(tmp_path, image(BOX), bad)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["images/train/a"]
    assert f"{path}:8" in reasons(found)
    assert says in reasons(found)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"<annotations><meta></annotations>", ":1: not well-formed XML"),
        (b"<annotations>\n\xff</annotations>", "not well-formed XML"),
        (BOMB.encode(), "declares XML entities"),
        (b"<annotation/>", "its root is <annotation>, not <annotations>"),
        (b"<annotations><meta/><track/></annotations>", "contains video <track>s; export as CVAT for images"),
        (b"<annotations><meta/></annotations>", "nothing in the format cvat"),
    ],
)
def test_a_bad_file_is_reported(tmp_path, data, says):
    (tmp_path / "annotations.xml").write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        reading(tmp_path / "annotations.xml", format="cvat")
    assert str(caught.value).startswith(str(tmp_path / "annotations.xml"))
