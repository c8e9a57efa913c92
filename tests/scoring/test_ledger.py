"""A ledger finds entries without an answer, without reading unchanged ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.conftest import drawn
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import DataError
from vlm_ft.scoring import units
from vlm_ft.scoring.answering import ASKING
from vlm_ft.scoring.ledger import Entry, Ledger, Row, ledger_path
from vlm_ft.scoring.score import score_folder

ANSWER = Prediction(fields={"kind": FieldValue("dent")})


def ledger(folder: Path) -> Ledger:
    return Ledger(folder / "out.ledger", "trial", "0", folder)


def entries(count: int, stamp: str = "1") -> list[Entry]:
    return [Entry(f"{number}", stamp, b"") for number in range(count)]


def test_only_new_or_changed_entries_are_left(tmp_path: Path) -> None:
    with ledger(tmp_path) as first:
        first.expect(entries(5))
        first.record(Row(f"{number}", "0", 1, 1, ANSWER) for number in range(4))
    with ledger(tmp_path) as again:
        changed = [*entries(2), Entry("2", "2", b""), Entry("3", None, b""), Entry("4", "1", b"")]
        again.expect(changed)
        assert again.unchanged() == (2, 0)
        assert [(entry.path, entry.digest) for entry in again.changed()] == [("2", "0"), ("3", "0"), ("4", None)]
        again.confirm(["2"])
        assert [entry.path for entry in again.changed()] == ["3", "4"]
        assert [row.path for row in again.rows()] == ["0", "1", "2", "3"]


def test_an_unreadable_entry_is_tried_again(tmp_path: Path) -> None:
    with ledger(tmp_path) as opened:
        opened.expect(entries(2))
        opened.record([Row("0", "", None, None, Prediction.failed("cannot be read")), Row("1", "0", 1, 1, ANSWER)])
        assert [entry.path for entry in opened.changed()] == ["0"]


def test_writing_between_two_pages_skips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_ft.scoring.ledger.PAGE", 3)
    with ledger(tmp_path) as opened:
        opened.expect(entries(20))
        seen = []
        for entry in opened.changed():
            seen.append(entry.path)
            opened.record([Row(entry.path, "0", 1, 1, ANSWER)])
        assert seen == [f"{number}" for number in range(20)]


def test_settled_photos_are_not_read_again(
    defects: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SETTLED", 0)
    read: list[Path] = []
    plain = units.digest

    def digest(paths: Any) -> str:
        read.extend(paths)
        return plain(paths)

    monkeypatch.setattr(units, "digest", digest)
    score_folder(defects, "trial", photos, tmp_path / "out.csv")
    assert len(read) == 10
    read.clear()
    assert score_folder(defects, "trial", photos, tmp_path / "out.csv").resumed == 10
    assert read == []
    (photos / "odd" / "003.png").touch()
    assert score_folder(defects, "trial", photos, tmp_path / "out.csv").resumed == 10
    assert [path.name for path in read] == ["003.png"]


def test_a_ledger_of_the_first_version_is_resumed(defects: Any, photos: Path, tmp_path: Path) -> None:
    """It has no stamps, so every photo is read once."""
    out = tmp_path / "out.csv"
    score_folder(defects, "trial", photos, out)
    with closing(sqlite3.connect(ledger_path(out))) as database, database:
        database.execute("ALTER TABLE answers DROP COLUMN stamp")
    assert score_folder(defects, "trial", photos, out).resumed == 10


def test_a_full_disk_is_reported_and_loses_no_row(
    defects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = drawn(tmp_path / "photos", 400), tmp_path / "out.csv"
    prepare = Ledger._prepare

    def small(self: Ledger) -> None:
        prepare(self)
        self._db.execute("PRAGMA max_page_count = 20")  # sqlite then fails as it does on a full disk

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_prepare", small)
        with pytest.raises(DataError, match="database or disk is full"):
            score_folder(defects, "trial", folder, out, batch_size=8)
    assert not out.exists()
    answered = sum(defects.batches)
    defects.batches.clear()
    report = score_folder(defects, "trial", folder, out, batch_size=8)
    assert report.scored == 400
    assert answered - ASKING * 8 <= report.resumed == 400 - sum(defects.batches) > 0
