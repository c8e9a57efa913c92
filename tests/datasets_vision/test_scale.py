"""Reading takes the memory of one row, however long the set is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.formats.tables import MAX_LINE
from datasets_vision.source import SetAside, Source, read, stream

SHORT, LONG = 10_000, 60_000
TOLERANCE = 1.15  # of peak resident size, as the project promises between 10 k and 1 M rows

STREAM = """
import re, sys
from datasets_vision.source import Source, stream
count = sum(1 for _ in stream(Source(path=sys.argv[1])))
print(count, re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def rows(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("text,kind\n")
        file.writelines(f"row {number} tells of part {number % 97},kind{number % 7}\n" for number in range(count))


def coco(path: Path, count: int) -> None:
    """A file with three annotations per image; all images but one are missing."""
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(count)]
    outline = [1.25, 1.5, 6.25, 1.5, 6.25, 6.75] * 10
    boxes = [
        {"id": number, "image_id": number % count, "category_id": 1, "segmentation": [outline]}
        for number in range(3 * count)
    ]
    names = [{"id": 1, "name": "dent"}]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    Image.new("L", (8, 8)).save(path.parent / "0.png")


def peak(path: Path) -> tuple[int, int]:
    """(items, peak resident KiB) of a process that streams `path`."""
    done = subprocess.run([sys.executable, "-c", STREAM, str(path)], capture_output=True, text=True, check=True)
    count, size = done.stdout.split()
    return int(count), int(size)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak resident size is read from /proc")
def test_peak_memory_does_not_grow_with_the_rows(tmp_path):
    sizes = []
    for count in (SHORT, LONG):
        rows(tmp_path / f"{count}.csv", count)
        read_rows, size = peak(tmp_path / f"{count}.csv")
        assert read_rows == count
        sizes.append(size)
    assert sizes[1] < sizes[0] * TOLERANCE


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak resident size is read from /proc")
def test_annotations_take_a_few_times_the_memory_of_their_text(tmp_path):
    sizes, texts = [], []
    for count in (100, 4_000):
        coco(tmp_path / "coco.json", count)
        items, size = peak(tmp_path / "coco.json")
        assert items == count
        sizes.append(size)
        texts.append((tmp_path / "coco.json").stat().st_size / 1024)
    assert sizes[1] - sizes[0] < 4 * (texts[1] - texts[0])  # its bytes, its text, and where each entry starts


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak resident size is read from /proc")
def test_an_endless_line_is_never_held_in_memory(tmp_path):
    """A line of 1 GB, written as a hole in a sparse file; NUL is a character like any other."""
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"text,kind\ngood,a\n")
        file.seek(1 << 30, 1)
        file.write(b"\ngood,b\n")
    count, size = peak(path)
    assert count == 3
    assert size < 200 << 10


def counting(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Path]:
    """The photos with which a function of the readers is called."""
    calls: list[Path] = []
    module = sys.modules["datasets_vision.formats.drafts"]
    original: Callable[[Path], object] = getattr(module, name)

    def counted(path: Path) -> object:
        calls.append(path)
        return original(path)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_rows_are_read_on_demand(tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("file,kind\n" + "a.png,dent\n" * 1000)
    calls = counting(monkeypatch, "image_size")
    found = list(islice(stream(Source(path=tmp_path / "a.csv", image="file")), 3))
    assert len(calls) == len(found) == 3
    assert [example.images for example in found] == [(tmp_path / "a.png",)] * 3


def test_nothing_is_decoded_while_reading(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (800, 800)).save(path)
    path.write_bytes(path.read_bytes()[:60])  # the header alone
    (tmp_path / "a.csv").write_text("file,kind\na.png,dent\n")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    assert len(read(Source(path=tmp_path, image="file")).examples) == 1


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 11])
def test_stream_gives_what_read_gives(tmp_path, limit):
    rows(tmp_path / "a.csv", 10)
    with (tmp_path / "a.csv").open("a") as file:
        file.write("odd\n")
    source = Source(path=tmp_path, limit=limit)
    found = read(source)
    items = list(stream(source))
    assert tuple(item for item in items if not isinstance(item, SetAside)) == found.examples
    assert tuple(item for item in items if isinstance(item, SetAside)) == found.set_aside
    assert [example.id for example in found.examples] == [
        f"a:{n * 10 // min(limit, 10) + 2}" for n in range(min(limit, 10))
    ]
    assert len(found.set_aside) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("spare", range(-3, 4))
def test_line_numbers_are_right_after_a_line_near_the_limit(tmp_path, end, spare):
    """The limit may fall before, between or after the two characters of a line end."""
    long = "x" * (MAX_LINE + spare - len(",a") - len(end)) + ",a"
    (tmp_path / "a.csv").write_bytes(end.join(["text,kind", long, "good,b", "", "good,c", ""]).encode())
    items = {item.id if not isinstance(item, SetAside) else item.place for item in stream(Source(path=tmp_path))}
    assert items == {"a:2" if spare <= 0 else f"{tmp_path}/a.csv:2", "a:3", "a:5"}
