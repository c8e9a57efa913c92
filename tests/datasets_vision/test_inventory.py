"""The table of sets: what is read, what is set aside, and whether the counts agree with those stated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from datasets_vision.inventory import HEADER, OPTIONS, entries, read_set, read_sets
from tests.datasets_vision.made import DATA
from vlm_ft.cli import app
from vlm_ft.errors import DataError


@pytest.fixture
def sets(tmp_path) -> Path:
    """A good set of texts, a set of photos with a bad file, and a set that no format can read."""
    for folder in ("texts", "photos/dent", "odd"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "texts/train.csv").write_text("text,label\na,b\nc,d\n")
    for name in "ab":
        Image.new("L", (8, 8)).save(tmp_path / f"photos/dent/{name}.jpg")
    (tmp_path / "photos/dent/c.jpg").touch()
    (tmp_path / "odd/a.npy").touch()
    return tmp_path


def write_manifest(root: Path, **items: object) -> None:
    (root / "manifest.json").write_text(json.dumps([{"path": path, "items": count} for path, count in items.items()]))


def test_every_set_is_read_and_a_bad_one_does_not_stop_the_others(sets):
    found = {record.entry.name: record for record in read_sets(sets)}
    assert list(found) == ["odd", "photos", "texts"]
    assert (found["texts"].format, found["texts"].items) == ("tables", 2)
    assert (found["photos"].items, found["photos"].set_aside, found["photos"].agrees) == (2, 1, True)
    assert found["photos"].reasons[0][1].startswith("0 bytes")
    assert "unknown format (1 .npy)" in found["odd"].error
    assert not found["odd"].agrees


@pytest.mark.parametrize(("stated", "agrees"), [(1, False), (2, True), (3, True), (4, False), (None, True)])
def test_a_set_agrees_when_each_stated_item_was_read_or_set_aside(sets, stated, agrees):
    write_manifest(sets, photos=stated)
    (record,) = read_sets(sets)
    assert record.agrees is agrees


def test_reasons_are_counted_by_kind(sets):
    (sets / "texts/train.csv").write_text("text,label\na,b\nc\nd\n" + "e,f,g\n" * 3)
    (record,) = [record for record in read_sets(sets) if record.entry.name == "texts"]
    ((count, reason),) = record.reasons  # one kind, whatever the numbers in it
    assert count == 5
    assert reason.startswith("expected 2 cells, found 1")
    assert record.row().startswith("| texts | tables | 1 |  | yes | 0 | 5 |")


def test_options_say_which_column_is_the_text(sets, monkeypatch):
    (sets / "texts/train.csv").write_text("words,label\na,b\n")
    monkeypatch.setitem(OPTIONS, "texts", {"text": "{words}"})
    records = {record.entry.name: record for record in read_sets(sets)}
    assert records["texts"].items == 1
    monkeypatch.setitem(OPTIONS, "texts", {"txt": "{words}"})
    records = {record.entry.name: record for record in read_sets(sets)}
    assert "Extra inputs are not permitted" in records["texts"].error


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not readable as JSON"),
        ("{}", "not a list of sets"),
        ("[]", "not a list of sets"),
        ('[{"items": 3}]', "set 1 has no path"),
        ('["a"]', "set 1 has no path"),
    ],
)
def test_a_bad_manifest_is_reported(tmp_path, content, says):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        entries(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "manifest.json"))


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="contains no folders"):
        entries(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        entries(tmp_path / "absent")


def test_the_command_prints_the_table(sets):
    write_manifest(sets, texts=2, photos=3)
    done = CliRunner().invoke(app, ["data", "sets", str(sets)])
    assert done.exit_code == 0
    assert done.stdout.startswith(HEADER)
    assert "| photos | folders | 2 | 3 | yes | 0 | 1 | 1 × 0 bytes" in done.stdout
    write_manifest(sets, texts=2, photos=7)
    done = CliRunner().invoke(app, ["data", "sets", str(sets)])
    assert done.exit_code == 1
    assert "| photos | folders | 2 | 7 | NO |" in done.stdout


def test_the_real_sets_are_listed():
    if not (DATA / "manifest.json").is_file():
        pytest.skip("no real sets here; point VLM_FT_DATA at the folder that contains them")
    found = entries(DATA)
    assert [entry.name for entry in found] == [
        listed["path"] for listed in json.loads((DATA / "manifest.json").read_text())
    ]
    assert all(entry.path.is_dir() and entry.stated for entry in found)


@pytest.mark.parametrize(
    "name", ["repair_cost_rules", "logs_maintnet", "logs_faa_omin", "obd_codes_csv", "excavator_work_orders_csv"]
)
def test_real_tables_read_as_stated(name):
    if not (DATA / "manifest.json").is_file():
        pytest.skip("no real sets here; point VLM_FT_DATA at the folder that contains them")
    (entry,) = [entry for entry in entries(DATA) if entry.path.name == name]
    found = read_set(entry)
    assert (found.format, found.items, found.error) == ("tables", entry.stated, "")
