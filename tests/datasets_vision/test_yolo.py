"""YOLO: mixed boxes and polygons, and class names from all the usual files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from datasets_vision.formats import detect, yolo
from tests.datasets_vision.made import SQUARE_BOX, objects, only, photo, reading, real_set, reasons
from vlm_ft.errors import DataError

BOX = "0 0.2 0.3 0.2 0.4"
POLYGON = "1 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5"
YAML = "train: train/images\nval: valid/images\nnc: 2\nnames: ['dent', crack]\n"


def write(root: Path, text: str | bytes = BOX, yaml: str = YAML, stem: str = "a") -> Path:
    photo(root / f"train/images/{stem}.PNG")
    path = root / f"train/labels/{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if yaml:
        (root / "data.yaml").write_text(yaml)
    return path


def test_one_file_can_mix_boxes_and_polygons(tmp_path):
    path = write(tmp_path, f"{BOX}\n{POLYGON}\n")
    assert detect(tmp_path) == "yolo"
    example = only(reading(tmp_path))
    assert objects(example) == [("dent", SQUARE_BOX), ("crack", SQUARE_BOX)]
    assert [list(obj.attributes) for obj in example.label.objects] == [[], ["polygon"]]
    assert (example.id, example.role, example.source) == ("train/images/a", "train", str(path))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2 0.2 0.3 0.2 0.4", "class 2 has no name; the file of names has 0, 1"),
        ("-1 0.2 0.3 0.2 0.4", "'-1' is not a class"),
        ("dent 0.2 0.3 0.2 0.4", "'dent' is not a class"),
        ("0 0.02 0.3 0.2 0.4", "lies outside the image 100x50"),
        ("0 0.2 0.3 -0.2 0.4", "has no area"),
        ("0 0.2 0.3 0.2", "3 numbers follow the class"),
        ("0 0.2 0.3 0.2 0.4 0.9", "5 numbers follow the class; give 4 for a box, or an even number of at least 6"),
        ("0 0.1 0.1 0.1 0.1 0.2 0.2", "polygon of 2 points"),
        ("0 0,2 0,3 0,2 0,4", "is not a row of numbers"),
        (BOX, "duplicate of line 1"),
        ("9" * 5000 + " 1", "is not a class"),
    ],
)
def test_a_bad_line_is_set_aside_and_the_image_stays(tmp_path, line, says):
    path = write(tmp_path, f"{BOX}\r\n\r\n{line}\r\n")
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert reasons(found).startswith(f"{path}:3: ")
    assert says in reasons(found)
    assert len(reasons(found)) < 500


def test_no_objects_differs_from_unlabelled(tmp_path):
    write(tmp_path, "")
    assert reading(tmp_path).examples[0].label.objects == ()
    write(tmp_path, "7 0.2 0.3 0.2 0.4")
    assert reading(tmp_path).examples[0].label.objects is None


def test_images_and_labels_without_a_partner_are_reported(tmp_path):
    write(tmp_path)
    write(tmp_path, stem="b").unlink()
    lonely = write(tmp_path, stem="c")
    (tmp_path / "train/images/c.PNG").unlink()
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["train/images/a"]
    assert "b.PNG: no label file for this image" in reasons(found)
    assert f"{lonely}: its image is missing" in reasons(found)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"\xff\xfe0 ", "a.txt: not UTF-8: byte 0xff at offset 0"), (b" " * 200, "a.txt: 200 bytes are more than 99")],
)
def test_a_bad_label_file_is_set_aside(tmp_path, monkeypatch, data, says):
    write(tmp_path, stem="b")
    write(tmp_path, data)
    monkeypatch.setattr(yolo, "MAX_BYTES", 99)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["train/images/b"]
    assert says in reasons(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("damage.yaml", "path: .\ntrain: a\nnames:\n  0: dent\n"),
        ("data.yml", "names: [dent]\nnc: 1"),
        ("classes.txt", "dent\n"),
        ("obj.names", "dent\ncrack\n"),
    ],
)
def test_names_are_found_where_people_put_them(tmp_path, name, text):
    write(tmp_path, yaml="")
    (tmp_path / name).write_text(text)
    assert detect(tmp_path) == "yolo"
    assert objects(reading(tmp_path).examples[0]) == [("dent", SQUARE_BOX)]


def test_without_names_a_class_is_its_number(tmp_path):
    write(tmp_path, yaml="")
    assert objects(reading(tmp_path, rename={"0": "dent"}).examples[0]) == [("dent", SQUARE_BOX)]


def test_labels_may_be_beside_their_images(tmp_path):
    for stem in ("a", "b[1]"):
        photo(tmp_path / f"{stem}.JPG")
        (tmp_path / f"{stem.upper()}.txt").write_text(BOX)
    assert detect(tmp_path) == "yolo"
    found = reading(tmp_path)
    assert ([example.id for example in found.examples], found.set_aside) == (["a", "b[1]"], ())


@pytest.mark.parametrize("line_a", ["images/line_a", "../set/images/line_a", "lists/a.txt"])
def test_the_role_is_in_the_path_or_in_the_yaml(tmp_path, line_a):
    tmp_path = tmp_path / "set"
    (tmp_path / "lists").mkdir(parents=True)
    (tmp_path / "lists/a.txt").write_text("../images/line_a/a.png\n")
    for folder in ("images/val", "images/line_a", "images/line_b"):
        photo(tmp_path / folder / "a.png")
        labels = tmp_path / folder.replace("images", "labels") / "a.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text(BOX)
    (tmp_path / "data.yaml").write_text(f"train: {line_a}\nval: images/val\nnames: [dent]\n")
    assert {example.id: example.role for example in reading(tmp_path).examples} == {
        "images/line_a/a": "train",
        "images/line_b/a": None,
        "images/val/a": "val",
    }


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("train: a\nnames: [yes, no]", "the name of class 0 is a bool; put each name in quotes"),
        ("train: a\nnames: {dent: 0}", "names has the key 'dent', which is not a class number"),
        ("train: a\nnames: 3", "neither a list nor a mapping of numbers"),
        ("train: a\nnames:\n - [", "data.yaml:3: not YAML"),
        ("train: a\nnames: &a [*a, x]", "is a list; put each name in quotes"),
    ],
)
def test_bad_names_are_a_fault_of_the_whole_set(tmp_path, yaml, says):
    write(tmp_path, yaml=yaml)
    with pytest.raises(DataError, match=says) as caught:
        reading(tmp_path, format="yolo")
    assert str(caught.value).startswith(str(tmp_path / "data.yaml"))


def test_names_without_images_are_reported(tmp_path):
    (tmp_path / "data.yaml").write_text("path: /elsewhere\ntrain: images\nnames: [dent]\n")
    with pytest.raises(DataError, match="contains neither images nor labels; give the folder that contains them"):
        reading(tmp_path)


@pytest.mark.parametrize("text", ["466 441 493 470 3\n", "JPEGImages/a.jpg\n", "1 2 3\n", "words about the photo\n"])
def test_other_text_files_are_not_mistaken_for_labels(tmp_path, text):
    photo(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(text)
    assert not yolo.matches(tmp_path)


def test_real_sets_have_their_stated_counts():
    found = real_set("car_damage/yolo_damage")
    assert Counter(example.role for example in found.examples for _ in objects(example)) == {"train": 83, "val": 14}
    assert (len(found.examples), found.set_aside) == (55, ())


def test_a_real_set_mixes_boxes_and_polygons():
    found = real_set("aviation_maintenance/aircraft_skin_yolo")
    assert Counter(example.role for example in found.examples) == {"train": 396, "valid": 76}
    labelled = [(example.role, obj) for example in found.examples for obj in example.label.objects]
    assert Counter(role for role, obj in labelled if "polygon" in obj.attributes) == {"train": 49, "valid": 8}
    train = Counter(obj.name for role, obj in labelled if role == "train")
    assert train == {"dent": 274, "crack": 183, "missing-head": 135, "paint-off": 134, "scratch": 26}
    assert found.set_aside == ()
