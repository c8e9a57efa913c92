"""Each unsuitable file gives one line with a remedy, however the system or a parser fails on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from datasets_vision.formats.contract import SetAside
from datasets_vision.source import Source, read
from datasets_vision.walk import walk
from tests.datasets_vision.made import photo
from vlm_ft.errors import DataError


@pytest.mark.parametrize("target", ["gone.csv", "labels.csv"], ids=["nowhere", "itself"])
def test_a_broken_link_is_reported(tmp_path: Path, target: str) -> None:
    photo(tmp_path / "dent/a.png")
    (tmp_path / "labels.csv").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match="a broken link"):
        read(Source(path=tmp_path))


@pytest.mark.parametrize("target", ["gone.png", "b.png"], ids=["nowhere", "itself"])
def test_a_broken_link_to_an_image_is_set_aside(tmp_path: Path, target: str) -> None:
    photo(tmp_path / "dent/a.png")
    (tmp_path / "dent/b.png").symlink_to(tmp_path / "dent" / target)
    found = read(Source(path=tmp_path))
    assert len(found.examples) == 1
    assert [entry.place for entry in found.set_aside] == [str(tmp_path / "dent/b.png")]


def test_pipes_and_hidden_broken_links_are_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / ".#lock").symlink_to("user@host.1")
    assert list(walk(tmp_path)) == []


def test_a_hidden_folder_is_reported_and_not_read(tmp_path: Path) -> None:
    for name in ("dent/a.png", ".ipynb_checkpoints/a.png", "dent/.git/b.png"):
        photo(tmp_path / name)
    found = read(Source(path=tmp_path))
    assert [example.id for example in found.examples] == ["dent/a"]
    assert [Path(entry.place).name for entry in found.set_aside] == [".ipynb_checkpoints", ".git"]
    assert {entry.problem for entry in found.set_aside} == {"hidden folders are not read"}


def test_files_that_systems_add_are_skipped(tmp_path: Path) -> None:
    photo(tmp_path / "dent/a.png")
    for name in (".DS_Store", "dent/Thumbs.db", "dent/._a.png", "__MACOSX/dent/._a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert read(Source(path=tmp_path)).set_aside == ()


@pytest.mark.parametrize("path", ["/dev/null", "x" * 5000, "a\0b"], ids=["device", "too long a name", "null byte"])
def test_a_path_that_the_system_rejects_is_reported(path: str) -> None:
    with pytest.raises(DataError):
        read(Source(path=Path(path)))


def test_a_photo_name_that_the_system_rejects_sets_its_row_aside(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "rows.csv").write_text(f"photo,kind\na.png,dent\n{'x' * 5000},dent\n")
    (tmp_path / "rows.jsonl").write_text(f'{{"photo": "a.png"}}\n{{"photo": "{"x" * 5000}"}}\n')
    for name, form in (("rows.csv", "tables"), ("rows.jsonl", "records")):
        found = read(Source(path=tmp_path / name, image="photo", format=form, text="{photo}"))
        assert (len(found.examples), len(found.set_aside)) == (1, 1)


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2Jb", "a\u2028b", "a\x00b", "a\ud800b"])
def test_a_set_aside_entry_is_one_line_of_plain_text(text: str) -> None:
    entry = SetAside(text, text * 3)
    for line in (entry.place, entry.reason):
        assert line.isprintable()
        assert line.startswith("a\\")


def test_a_set_aside_entry_is_short() -> None:
    assert len(SetAside("x", "y" * 100_000).reason) < 1100


def test_yolo_names_that_yaml_cannot_parse_are_reported(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2")
    for wrong in ("!!timestamp x", "2020-99-99", "!!float x"):
        (tmp_path / "data.yaml").write_text(f"names: [{wrong}]\nnc: 1\n")
        with pytest.raises(DataError, match=r"data\.yaml"):
            read(Source(path=tmp_path, format="yolo"))
    (tmp_path / "data.yaml").write_text(f"names: [dent]\ntrain: {'x' * 5000}\n")
    assert len(read(Source(path=tmp_path, format="yolo")).examples) == 1


def test_a_saved_state_that_is_a_pipe_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (tmp_path / "train").mkdir()
    os.mkfifo(tmp_path / "train/state.json")
    with pytest.raises(DataError, match="cannot be loaded"):
        read(Source(path=tmp_path))


@pytest.mark.parametrize("item", [None, "1", 5, -1, 1.5])
def test_a_region_without_its_image_is_set_aside(tmp_path: Path, item: object) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    value = {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["dent"]}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "l", "value": value, "item_index": item}
    task = {"id": 1, "data": {"images": ["a.png", "b.png"]}, "annotations": [{"result": [region]}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    found = read(Source(path=tmp_path))
    assert len(found.examples) == 1
    assert "item_index" in found.set_aside[0].reason


@pytest.mark.parametrize("target", ["elsewhere", "set", "."], ids=["a folder", "a folder above", "itself"])
def test_a_linked_folder_is_reported_and_not_followed(tmp_path: Path, target: str) -> None:
    photo(tmp_path / "set/dent/a.png")
    photo(tmp_path / "elsewhere/b.png")
    (tmp_path / "set/scratch").symlink_to(tmp_path / target)
    found = read(Source(path=tmp_path / "set"))
    assert [example.id for example in found.examples] == ["dent/a"]
    assert [(entry.place, "links to folders" in entry.reason) for entry in found.set_aside] == [
        (str(tmp_path / "set/scratch"), True)
    ]


@pytest.mark.parametrize("limit", [None, 1])
def test_links_are_reported_once_in_order(tmp_path: Path, limit: int | None) -> None:
    """This holds even if the image folder lies below the source's; the error for a whole set never cites a link."""
    photo(tmp_path / "set/images/a.png")
    (tmp_path / "elsewhere").mkdir()
    links = ["images/2", "images/10", "other"]
    for link in links[::-1]:
        (tmp_path / "set" / link).symlink_to(tmp_path / "elsewhere")
    image = {"id": 1, "file_name": "a.png"}
    tables = {"images": [image], "annotations": [], "categories": []}
    (tmp_path / "set/coco.json").write_text(json.dumps(tables))
    source = Source(path=tmp_path / "set", image_folder=tmp_path / "set/images", limit=limit)
    assert [entry.place for entry in read(source).set_aside] == [str(tmp_path / "set" / link) for link in links]
    (tmp_path / "set/coco.json").write_text(json.dumps(tables).replace("a.png", "b.png"))
    with pytest.raises(DataError, match=r"'b\.png' is missing.*2 set aside"):
        read(source)


def test_a_folder_of_linked_folders_is_reported(tmp_path: Path) -> None:
    photo(tmp_path / "elsewhere/b.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/scratch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="links to folders, which are not followed"):
        read(Source(path=tmp_path / "set"))


def test_empty_files_have_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "rows.json").touch()
    with pytest.raises(DataError, match=r"unknown format \(1 \.json\); all files have 0 bytes, so export"):
        read(Source(path=tmp_path))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("photos.zip", "unpack it, and give the folder"),
        ("dent/IMG_1.HEIC", "convert the photos to JPEG or PNG"),
        ("labels.xlsx", "save the table as CSV"),
    ],
)
def test_files_that_no_format_reads_have_a_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=rf"unknown format \(1 \.\w+\); {remedy}"):
            read(Source(path=path))
