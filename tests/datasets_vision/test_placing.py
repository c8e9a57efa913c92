"""Output is complete or absent, and an unwritable path gives a one-line error."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.compose import compose, write_scenes
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.export_label_studio import export
from datasets_vision.placing import complete_lines, new_folder, whole_file
from datasets_vision.synthetic.writing import write_set
from vlm_ft.errors import DataError


def write_half(place, file) -> None:
    with place as part:
        file(part).write_text("half")
        raise DataError("half", "broken", "repair it")


def test_a_file_is_complete_or_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as part:
        part.write_text("first")
    with pytest.raises(DataError, match="repair it"):
        write_half(whole_file(path), lambda part: part)
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with pytest.raises(DataError, match="repair it"):
        write_half(new_folder(folder), lambda part: part / "a")
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()  # an empty one may exist
    with new_folder(folder) as part:
        (part / "a").write_text("a")
    assert [file.name for file in folder.iterdir()] == ["a"]
    with pytest.raises(DataError, match="not empty"), new_folder(folder):
        pass


@pytest.mark.parametrize("place", ["file/out", "/proc/out", "x" * 300, "a\0b", "/dev/null", "/", "."])
@pytest.mark.parametrize("write", [whole_file, new_folder])
def test_a_place_that_cannot_be_written_is_reported(write, place: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(DataError), write(Path(place)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_read_is_not_reported_as_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out"):
        Path("/nonexistent/source").read_text()


def test_an_incomplete_last_line_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    assert complete_lines(log) == []
    log.write_bytes("größe\n\u2028\n".encode() + "ö".encode()[:1])
    monkeypatch.setattr(Path, "write_text", None)  # a kill during a rewrite would lose the lines
    assert complete_lines(log) == ["größe", "\u2028"]
    assert log.read_bytes() == "größe\n\u2028\n".encode()


def test_a_log_that_is_not_utf_8_is_unchanged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a\n\xff\nb")
    with pytest.raises(DataError, match="log:2: not UTF-8: byte 0xff; restore the file"):
        complete_lines(log)
    assert log.read_bytes() == b"a\n\xff\nb"


def dented(tmp_path: Path) -> Example:
    photo = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(photo)
    return Example("a", images=(photo,), label=Label(objects=(LabelledObject("dent", (1, 1, 500, 500)),)), source="a")


@pytest.mark.parametrize(
    "options",
    [
        {"size": (1_000_000, 1_000_000)},
        {"size": (-5, 40)},
        {"scale": (1.0, float("inf"))},
        {"scale": (float("nan"), 1.0)},
        {"seed": -1},
        {"size": (40, 40), "scale": (1.0, 1.0)},
    ],
)
def test_scenes_that_fail_leave_nothing(options, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError):
        write_scenes(out, compose([dented(tmp_path)], 2, **{"size": (200, 200), **options}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 0, "size": 1_000_000}])
def test_a_set_that_cannot_be_drawn_leaves_nothing(options, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_set("product_defects", tmp_path / "out", 1, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_does_not_overwrite_annotations(tmp_path: Path) -> None:
    examples = [dented(tmp_path)]
    (tmp_path / "cvat.xml").write_text("<annotations/>")
    with pytest.raises(DataError, match="would be overwritten"):
        export(examples, tmp_path / "cvat.json")
    with pytest.raises(DataError, match=r"write to a \.json"):
        export(examples, tmp_path / "new.xml")
    for _ in range(2):  # its own output may be overwritten
        export(examples, tmp_path / "tasks.json")
    assert (tmp_path / "cvat.xml").read_text() == "<annotations/>"
