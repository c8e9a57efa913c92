"""DeepPCB: template and tested photo in one example."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.formats import detect
from datasets_vision.formats.pairs import TYPES
from datasets_vision.source import Source, read
from tests.datasets_vision.made import only
from vlm_ft.errors import DataError

BOARD = "PCBData/group1/00001"


def write(root: Path, name: str, boxes: str | bytes | None, *, size: tuple[int, int] = (64, 64)) -> Path:
    """A pair, and its file of boxes."""
    folder = root / BOARD
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(folder / f"{name}_temp.jpg")
    Image.new("RGB", size).save(folder / f"{name}_test.jpg")
    if boxes is not None:
        text = root / f"{BOARD}_not/{name}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_bytes(boxes if isinstance(boxes, bytes) else boxes.encode())
    return root


def write_list(root: Path, name: str, *stems: str) -> None:
    lines = [f"group1/00001/{stem}.jpg group1/00001_not/{stem}.txt" for stem in stems]
    (root / f"PCBData/{name}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("between", [" ", ","])
def test_a_pair_is_one_example(tmp_path, end, mark, between):
    rows = [between.join(f"0 {number} 32 64 {number}".split()) for number in TYPES]
    write(tmp_path, "a", mark + end.join([*rows, ""]))
    write_list(tmp_path, "trainval", "a")
    assert detect(tmp_path) == "pairs"
    example = only(read(Source(path=tmp_path)))
    assert example.images == (tmp_path / BOARD / "a_temp.jpg", tmp_path / BOARD / "a_test.jpg")
    assert (example.id, example.group, example.role) == (f"{BOARD}/a", "group1", "trainval")
    assert [obj.name for obj in example.label.objects] == list(TYPES.values())
    assert example.label.objects[0].box == (0, 16, 500, 1000)


def test_an_empty_text_means_no_defects(tmp_path):
    write(tmp_path, "a", "")
    (example,) = read(Source(path=tmp_path)).examples
    assert example.label.objects == ()
    assert example.role is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1 2 x 9 1", "is not four numbers"),
        ("1 2 30 30", "is not a box"),
        (",", "is not a box"),
        ("1 2 30 30 7", "unknown type '7'"),
        ("-1 2 30 30 1", "lies outside the image 64x64"),
        ("1 2 30 65 1", "lies outside the image 64x64"),
        ("9 2 9 30 1", "has no area"),
    ],
)
def test_a_bad_box_is_set_aside_by_file_and_line(tmp_path, row, says):
    write(tmp_path, "a", f"1 2 30 30 1\n{row}\n")
    write(tmp_path, "b", row)
    found = read(Source(path=tmp_path))
    assert [example.label.objects and len(example.label.objects) for example in found.examples] == [1, None]
    assert [Path(item.place).name for item in found.set_aside] == ["a.txt:2", "b.txt:1"]
    assert all(says in item.reason for item in found.set_aside)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("text", "no file of boxes; put b.txt into 00001_not"),
        ("template", "no such image file"),
        ("size", "its photo is 32x64"),
        ("encoding", "not UTF-8: byte 0xff at offset 0"),
        ("long", "1000001 bytes are more than 1000000"),
        ("tested", "a template without its photo b_test.jpg"),
        ("name", "its name ends with neither _temp nor _test"),
    ],
)
def test_a_bad_pair_is_set_aside(tmp_path, fault, says):
    write(tmp_path, "a", "1 2 30 30 1")
    boxes = {"encoding": b"\xff\xfe1", "long": b"1" * 1_000_001, "text": None}.get(fault, b"1 2 30 30 1")
    write(tmp_path, "b", boxes, size=(32, 64) if fault == "size" else (64, 64))
    folder = tmp_path / BOARD
    if fault in ("template", "tested"):
        (folder / f"b_{fault[:4]}.jpg").unlink()
    if fault == "name":
        (folder / "b_test.jpg").rename(folder / "b.jpg")
    found = read(Source(path=tmp_path))
    assert [example.id for example in found.examples] == [f"{BOARD}/a"]
    assert any(says in item.reason for item in found.set_aside)


def test_a_board_that_is_listed_twice_or_missing_is_set_aside(tmp_path):
    write(tmp_path, "a", "1 2 30 30 1")
    write_list(tmp_path, "test", "a")
    write_list(tmp_path, "val", "a", "gone")
    found = read(Source(path=tmp_path))
    assert found.examples[0].role == "test"
    assert [(Path(item.place).name, item.reason) for item in found.set_aside] == [
        ("val.txt:1", f"'{BOARD}/a' is already listed in 'test' ({tmp_path}/PCBData/test.txt:1)"),
        ("val.txt:2", f"'{BOARD}/gone' is listed in 'val' but missing"),
    ]


def test_pairs_have_no_columns(tmp_path):
    with pytest.raises(DataError, match="no column 'severity'"):
        read(Source(path=write(tmp_path, "a", ""), columns={"severity": "severity"}))
