"""Pascal VOC: valid boxes are kept, invalid ones are set aside with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.datasets_vision.made import reading, reasons
from vlm_ft.errors import DataError

BOMB = """<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""


def box(name: str, *corners: object) -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>1</difficult><bndbox>{sides}</bndbox></object>"


def write(root: Path, stem: str, objects: str = "", size: tuple[int, int] = (100, 50), image: bool = True) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if image:
        Image.new("RGB", (100, 50)).save(root / f"JPEGImages/{stem}.JPG", "JPEG")
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    path = root / f"Annotations/{stem}.xml"
    path.write_text(f"<annotation><filename>{stem}.jpg</filename>{stated}{objects}</annotation>")
    return path


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((1, 1, 100, 50), (10, 20, 1000, 1000)),  # from 1, inclusive: the whole image
        ((0, 0, 100, 50), (0, 0, 1000, 1000)),  # from 0, exclusive: the whole image
        ((0, 0, 99, 49), (0, 0, 990, 980)),  # from 0, inclusive
        (("10.5", " 5 ", "20.5", "10"), (105, 100, 205, 200)),
    ],
)
def test_valid_boxes_stay_valid_in_both_conventions(tmp_path, corners, expected):
    write(tmp_path, "a", box("dent", *corners))
    found = reading(tmp_path)
    assert found.set_aside == ()
    (obj,) = found.examples[0].label.objects
    assert (obj.name, obj.box, obj.attributes) == ("dent", expected, {"difficult": True})


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        ((-3, 5, 20, 20), "'dent' box -3, 5, 20, 20 lies outside the image 100x50"),
        ((5, 5, 101, 20), "outside the image 100x50"),
        ((5, 5, 5, 20), "'dent' box 5, 5, 5, 20 has no area"),
        ((20, 5, 10, 20), "no area"),
        (("", 5, 10, 20), "not four numbers"),
        (("left", 5, 10, 20), "not four numbers"),
    ],
)
def test_a_bad_box_is_set_aside_and_the_example_stays(tmp_path, corners, says):
    path = write(tmp_path, "a", box("dent", *corners) + box("scratch", 1, 2, 3, 4))
    found = reading(tmp_path)
    assert [obj.name for obj in found.examples[0].label.objects] == ["scratch"]
    assert found.set_aside[0].place == f"{path}:1"
    assert says in found.set_aside[0].reason
    assert str(found.set_aside[0]).count(str(path)) == 1


def test_no_objects_differs_from_unlabelled(tmp_path):
    write(tmp_path, "clean")
    write(tmp_path, "lost", box("dent", 5, 5, 5, 5))
    clean, lost = reading(tmp_path).examples
    assert clean.label.objects == ()
    assert lost.label.objects is None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: write(root, "b", image=False), "its image 'b.jpg' is missing"),
        (lambda root: write(root, "b", size=(50, 100)), "states 50x100, but its image is 100x50"),
        (lambda root: write(root, "b").write_text("<annotation><size>"), "not well-formed XML"),
        (lambda root: write(root, "b").write_text(BOMB), "declares XML entities"),
        (lambda root: write(root, "b").write_text("<html/>"), "its root is <html>"),
        (lambda root: write(root, "b").write_bytes(b""), "not well-formed XML"),
        (lambda root: write(root, "b") and (root / "JPEGImages/b.JPG").write_bytes(b""), "0 bytes"),
        (lambda root: write(root, "b") and (root / "JPEGImages/b.JPG").write_text("no"), "not a readable image"),
        (lambda root: write(root, "b").unlink(), "no annotation for this image"),
        (lambda root: (root / "ImageSets/Main/val.txt").write_text("b\n"), "'b' has no annotation and no image"),
    ],
)
def test_one_bad_file_among_good_ones_is_set_aside(tmp_path, spoil, says):
    write(tmp_path, "a")
    spoil(tmp_path)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["JPEGImages/a"]
    assert len(found.set_aside) == 1
    assert says in found.set_aside[0].reason
    assert "/b." in found.set_aside[0].place or "val.txt" in found.set_aside[0].place


def test_the_only_file_being_bad_is_an_error(tmp_path):
    path = write(tmp_path, "a")
    path.write_text("<annotation")
    with pytest.raises(DataError, match=f"^{path}:1: not well-formed XML"):
        reading(tmp_path)


def test_the_role_is_the_name_of_the_list(tmp_path):
    for stem in ("a", "b", "c", "d", "e"):
        write(tmp_path, stem)
    lists = {"train": "a\n", "trainval": "a\nb\n", "test": "c\ne\n", "val": "e\n", "dent_train": "a 1\nd -1\n"}
    for name, text in lists.items():
        (tmp_path / f"ImageSets/Main/{name}.txt").write_text(text)
    found = reading(tmp_path)
    assert {example.id[-1]: example.role for example in found.examples} == {
        "a": "train",
        "b": "trainval",
        "c": "test",
        "d": None,
    }
    assert "listed in test and val" in reasons(found)


def test_images_beside_the_annotations_and_split_folders(tmp_path):
    for role in ("train", "valid"):
        write(tmp_path / role, "a").rename(tmp_path / role / "a.xml")
        (tmp_path / role / "JPEGImages/a.JPG").rename(tmp_path / role / "a.png")
    assert [(example.id, example.role) for example in reading(tmp_path).examples] == [
        ("train/a", "train"),
        ("valid/a", "valid"),
    ]


def test_a_labels_table_gives_classes_and_columns(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b")
    (tmp_path / "labels.csv").write_text("file,class,severity\na.jpg,steel,minor\nJPEGImages/b.jpg,,\nz.jpg,x,y\n")
    found = reading(tmp_path, rename={"steel": "metal", "minor": "low"})
    first, second = (example.label for example in found.examples)
    assert (first.image_class, first.columns) == ("metal", {"severity": "low"})
    assert (second.image_class, second.columns) == (None, {})
    assert "labels.csv:4: its image 'z.jpg' is missing" in reasons(found)


def test_two_annotations_of_one_image_are_a_duplicate(tmp_path):
    write(tmp_path, "a")
    (tmp_path / "Annotations/copy.xml").write_text((tmp_path / "Annotations/a.xml").read_text())
    assert "id 'JPEGImages/a' is already used by" in reasons(reading(tmp_path))


def test_attributes_are_read_as_cvat_writes_them(tmp_path):
    attributes = "<attributes><attribute><name>part</name><value> door </value></attribute>"
    attributes += "<attribute><name>old</name><value>true</value></attribute>"
    attributes += (
        "<attribute><name></name><value>x</value></attribute><attribute><name>y</name></attribute></attributes>"
    )
    write(tmp_path, "a", box("dent", 1, 1, 20, 20).replace("</object>", f"{attributes}</object>"))
    (obj,) = reading(tmp_path).examples[0].label.objects
    assert {name: obj.attributes[name] for name in ("part", "old")} == {"part": "door", "old": True}
    assert not {"", "y"} & set(obj.attributes)
