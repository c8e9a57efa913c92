"""Parquet files with texts, paths of photos, and embedded photos."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from datasets_vision.formats import detect
from datasets_vision.source import Source, read
from tests.datasets_vision.made import only_set_aside
from vlm_ft.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VLM_FT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(level: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 6), level).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, features: dict[str, object] | None = None, **columns: list[object]) -> Path:
    """A Parquet file; with `features`, as `datasets` writes it."""
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def test_rows_are_texts_with_columns(tmp_path):
    day = datetime.date(2026, 1, 2)
    path = write(
        tmp_path / "set/train-00000-of-00002.parquet",
        text=["worn", "", "dry"],
        kind=["a", "b", None],
        hours=[1, 2, 3],
        share=[0.5, 0.5, float("nan")],
        day=[day] * 3,
        raw=[b"x"] * 3,
        parts=[["seal"], [], None],
    )
    assert detect(path) == detect(path.parent) == "parquet"
    found = read(Source(path=path.parent))
    assert [(example.id, example.text, example.role) for example in found.examples] == [
        ("train-00000-of-00002:1", "worn", "train"),
        ("train-00000-of-00002:3", "dry", "train"),
    ]
    assert dict(found.examples[0].label.columns) == {
        "kind": "a",
        "hours": 1,
        "share": 0.5,
        "day": "2026-01-02",
        "parts": ["seal"],
    }
    assert dict(found.examples[1].label.columns) == {"hours": 3, "day": "2026-01-02"}
    (item,) = found.set_aside
    assert (item.place, item.reason) == (f"{path}:2", "no text in '{text}'; fill its columns")


def test_a_column_names_photos_beside_the_file(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(png())
    path = write(tmp_path / "a.parquet", file=["photos/a.png", "photos/b.png", None], kind=["x", "y", "z"])
    found = read(Source(path=tmp_path, image="file", columns={"defect": "kind"}, values={"defect": {"x": "dent"}}))
    (example,) = found.examples
    assert example.images == (tmp_path / "photos/a.png",)
    assert (example.turns, dict(example.label.columns)) == ((), {"defect": "dent"})
    assert [item.place for item in found.set_aside] == [f"{path}:2", f"{path}:3"]
    assert "is missing" in found.set_aside[0].reason
    assert "no photo path" in found.set_aside[1].reason


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["dent", "scratch"]},
    "note": {"_type": "Value", "dtype": "string"},
}


def test_photos_in_the_file_are_written_once_by_content(tmp_path, cache):
    cells = [{"bytes": png(level), "path": "a.png"} for level in (1, 2, 1)]
    path = write(tmp_path / "set/a.parquet", FEATURES, image=cells, label=[0, 1, -1], note=["n", "n", None])
    found = read(Source(path=path))
    assert found.set_aside == ()
    assert [example.label.image_class for example in found.examples] == ["dent", "scratch", None]
    assert [dict(example.label.columns) for example in found.examples] == [{"note": "n"}, {"note": "n"}, {}]
    photos = [example.images[0] for example in found.examples]
    assert photos[0] == photos[2] != photos[1]
    assert photos[0].read_bytes() == png(1)
    assert photos[0].suffix == ".png"
    stamps = [photo.stat().st_mtime_ns for photo in photos]
    assert read(Source(path=path)) == found
    assert [photo.stat().st_mtime_ns for photo in photos] == stamps
    assert len([file for file in cache.rglob("*") if file.is_file()]) == 2


def test_structs_of_bytes_are_photos_and_a_cell_may_hold_several(tmp_path):
    both = {"bytes": png(1), "path": None}
    path = write(tmp_path / "a.parquet", photo=[both])
    assert len(read(Source(path=path)).examples[0].images) == 1
    features = {"photos": {"_type": "List", "feature": {"_type": "Image"}}}
    path = write(tmp_path / "b.parquet", features, photos=[[both, both]], text=["two"])
    (example,) = read(Source(path=path)).examples
    assert (len(example.images), example.text) == (2, "two")


@pytest.mark.parametrize(
    ("cell", "label", "says"),
    [
        ({"bytes": b"no image", "path": None}, 0, "8 bytes that are not an image"),
        ({"bytes": b"", "path": None}, 0, "no photo path"),
        (None, 0, "no photo path"),
        ({"bytes": png(), "path": None}, 7, "no class has the number 7; there are 2"),
    ],
)
def test_a_bad_row_is_set_aside(tmp_path, cell, label, says):
    good = {"bytes": png(), "path": None}
    path = write(tmp_path / "a.parquet", FEATURES, image=[good, cell], label=[0, label], note=["", ""])
    found = read(Source(path=path))
    assert len(found.examples) == 1
    assert says in only_set_aside(found, f"{path}:2")


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"", {}, "not a readable Parquet file"),
        (b"PAR1 and then nothing", {}, "not a readable Parquet file"),
        (None, {"text": "{txt}"}, "no column 'txt'"),
        (None, {"image": "photo"}, "no column 'photo'"),
        (None, {"columns": {"kind": "knd"}}, "no column 'knd'; did you mean 'kind'"),
    ],
)
def test_a_bad_file_is_an_error_alone_and_set_aside_among_others(tmp_path, content, options, says):
    path = write(tmp_path / "set/bad.parquet", text=["a"], kind=["b"])
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read(Source(path=path, **options))
    assert str(caught.value).startswith(str(path))
    if not options:
        write(tmp_path / "set/good.parquet", text=["a"])
        assert [item.place for item in read(Source(path=path.parent)).set_aside] == [str(path)]


def test_the_beginning_of_a_truncated_file_is_used(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": [f"row {n}" for n in range(4000)]}), path, row_group_size=2000)
    data = bytearray(path.read_bytes())
    start = parquet.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    found = read(Source(path=path))
    assert len(found.examples) == 2000
    assert [item.place for item in found.set_aside] == [str(path)]


@pytest.mark.parametrize("stored", ["no JSON", "{}", "[]", '{"info": {"features": null}}', '{"info": {"features": 3}}'])
def test_unreadable_features_set_the_file_aside(tmp_path, stored):
    (tmp_path / "set").mkdir()
    write(tmp_path / "set/good.parquet", text=["a"])
    table = pa.table({"text": ["b"]}).replace_schema_metadata({"huggingface": stored})
    parquet.write_table(table, tmp_path / "set/odd.parquet")
    found = read(Source(path=tmp_path / "set"))
    assert [example.text for example in found.examples] == ["a"]
    assert [item.place for item in found.set_aside] == [str(tmp_path / "set/odd.parquet")]
    assert "its `huggingface` metadata states no features" in found.set_aside[0].reason
