"""Image folders: the class is a folder's name."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.formats import detect
from datasets_vision.source import Source, read
from vlm_ft.errors import DataError


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, "JPEG")
    return root


@pytest.mark.parametrize(
    ("name", "image_class", "role"),
    [
        ("crack/a.jpg", "crack", None),
        ("crack/board 1/a.JPEG", "crack", None),
        ("train/crack/a.jpg", "crack", "train"),
        ("Test/crack/day2/a.PNG", "crack", "Test"),
    ],
)
def test_class_and_role_come_from_the_folders(tmp_path, name, image_class, role):
    (example,) = read(Source(path=write(tmp_path, name))).examples
    assert (example.label.image_class, example.role) == (image_class, role)
    assert example.label.objects is None
    assert example.id == name.rpartition(".")[0]
    assert example.images == (tmp_path / name,)


def test_the_class_can_come_from_the_file_name(tmp_path):
    write(tmp_path, "train/rolled-in_scale_12.jpg", "odd.jpg")
    found = read(Source(path=tmp_path, image_class=r"^(.*)_\d+$", rename={"rolled-in_scale": "scale"}))
    assert [(example.label.image_class, example.role) for example in found.examples] == [("scale", "train")]
    assert "matches nothing in 'odd'" in found.set_aside[0].reason


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("crack/notes.md", b"x", "'.md' is not an image suffix"),
        ("crack/phone.heic", b"x", "'.heic' is not an image suffix; convert a photo to JPEG or PNG"),
        ("crack/b.jpg", b"", "0 bytes"),
        ("crack/b.jpg", b"text", "not a readable image"),
        (
            "train/b.jpg",
            b"text",
            "not in a class folder, as 'train' names a split; rename that if it is a class",
        ),
        ("b.jpg", b"text", "not in a class folder"),
    ],
)
def test_other_files_are_set_aside(tmp_path, name, content, says):
    write(tmp_path, "crack/a.jpg", name)
    (tmp_path / name).write_bytes(content)
    found = read(Source(path=tmp_path))
    assert len(found.examples) == 1
    assert [item.place for item in found.set_aside] == [str(tmp_path / name)]
    assert says in found.set_aside[0].reason


def test_two_files_with_the_same_name_are_duplicates(tmp_path):
    found = read(Source(path=write(tmp_path, "crack/a.jpg", "crack/a.png")))
    assert len(found.examples) == 1
    assert "id 'crack/a' is already used by" in found.set_aside[0].reason


def test_annotations_of_another_format_are_not_mistaken_for_folders(tmp_path):
    write(tmp_path, "train/images/a.jpg")
    (tmp_path / "train/images/a.yml").write_text("of: no format that is known")
    move = r"move train/images/a\.yml out of the photos' folders if it labels none, or set format to one of: reviews"
    with pytest.raises(DataError, match=rf"unknown format \(1 \.jpg, 1 \.yml\); {move}"):
        read(Source(path=tmp_path))


def test_columns_need_a_table(tmp_path):
    with pytest.raises(DataError, match="no column 'severity'"):
        read(Source(path=write(tmp_path, "crack/a.jpg"), columns={"severity": "severity"}))


def test_a_table_beside_the_folders_gives_columns(tmp_path):
    write(tmp_path, "train/minor/a.jpg", "train/minor/b.jpg", "val/severe/c.jpg")
    rows = ["file,severity,side", "train/minor/a.jpg,minor,left", "val\\severe\\c.jpg,severe,", "val/d.jpg,minor,left"]
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join([*rows, "val/d.jpg,severe,left", ""]))
    found = read(Source(path=tmp_path))
    assert [(example.id, example.label.image_class, dict(example.label.columns)) for example in found.examples] == [
        ("train/minor/a", "minor", {"severity": "minor", "side": "left"}),
        ("train/minor/b", "minor", {}),
        ("val/severe/c", "severe", {"severity": "severe"}),
    ]
    assert [(item.place, item.reason) for item in found.set_aside] == [
        (f"{tmp_path}/labels.csv:5", "a second row for 'val/d.jpg'"),
        (f"{tmp_path}/labels.csv:4", "its image 'val/d.jpg' is missing"),
    ]


def test_a_table_alone_can_name_the_class(tmp_path):
    write(tmp_path, "photos/a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "labels.csv").write_text("file, class,side\nb.jpg, dent ,left\na.jpg,scratch,right\n")
    found = read(Source(path=tmp_path))
    assert {example.id: example.label.image_class for example in found.examples} == {"b": "dent", "photos/a": "photos"}
    assert [item.place for item in found.set_aside] == [f"{tmp_path}/c.jpg"]


def test_accents_of_names_may_be_encoded_in_two_ways(tmp_path):
    write(tmp_path, unicodedata.normalize("NFD", "Größe.jpg"))
    (tmp_path / "labels.csv").write_text("file,class\nGröße.jpg,dent\n", encoding="utf-8")
    assert [example.label.image_class for example in read(Source(path=tmp_path)).examples] == ["dent"]


@pytest.mark.parametrize(
    ("folder", "name", "form"),
    [
        ("", "list.csv", "tables"),
        ("images/", "list.csv", "tables"),
        ("train/", "list.tsv", "tables"),
        ("train/dent/", "list.csv", "folders"),
        ("", "labels.csv", "folders"),
    ],
)
def test_a_table_beside_unsorted_images_labels_them(tmp_path, folder, name, form):
    write(tmp_path, f"{folder}a.jpg")
    (tmp_path / name).write_text("file,class\na.jpg,dent\n")
    assert detect(tmp_path) == form


@pytest.mark.parametrize(
    ("rows", "classes", "set_aside"),
    [
        (["a.png,good", "a.jpg,bad"], {"a.jpg": "bad", "a.png": "good"}, []),
        (["val/a.png,good"], {"a.png": "good"}, ["a.jpg"]),
        (["a.png,good"], {"a.png": "good"}, ["a.jpg"]),
        (["a.bmp,good", "a.jpg,bad"], {"a.jpg": "bad"}, ["a.png", "labels.csv:2"]),
        (["a.bmp,good"], {"a.jpg": "good"}, ["a.png"]),
        (["a,good"], {"a.jpg": "good"}, ["a.png"]),
        (["A.JPG,good"], {"a.jpg": "good"}, ["a.png"]),
    ],
    ids=str,
)
def test_a_row_belongs_to_the_file_it_names(tmp_path, rows, classes, set_aside):
    """Two files with the same stem in two split folders, walked in the order of their paths."""
    write(tmp_path, "train/a.jpg", "val/a.png")
    (tmp_path / "labels.csv").write_text("\n".join(["file,class", *rows]))
    found = read(Source(path=tmp_path))
    assert {example.images[0].name: example.label.image_class for example in found.examples} == classes
    assert [Path(item.place).name for item in found.set_aside] == set_aside


@pytest.mark.parametrize(("header", "says"), [("image,severity", "no column 'file'"), ("", "empty table")])
def test_a_table_that_cannot_be_used_is_an_error(tmp_path, header, says):
    write(tmp_path, "minor/a.jpg")
    (tmp_path / "labels.csv").write_text(header)
    with pytest.raises(DataError, match=says):
        read(Source(path=tmp_path))
