"""What is shown beside a table of answers: its notice, and the photos that cannot be shown, with the reason."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

from PIL import Image
from vlm_ft.demo.batch_tab import EVERYTHING, _pictures, _results, _short, _unshown

from tests.demo.test_views import Markup


def test_photos_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000)).save(tmp_path / "whole.png")
    (tmp_path / "<b>cut.jpg").write_bytes(b"no image")
    pictures, problems = _pictures(tmp_path, ["whole.png", "<b>cut.jpg", "gone.png"])
    assert [name for _, name in pictures] == ["whole.png"]
    text = Markup(_unshown(problems)).text
    assert "Photos that cannot be shown: 2" in text
    assert "<b>cut.jpg: not a readable image" in text
    assert "gone.png: " in text
    assert str(tmp_path) not in text
    assert _unshown([]) == ""


def test_the_notice_of_the_answers_is_shown_once(tmp_path: Path) -> None:
    rows = "".join(f"{name}.png,none,answer,Generated data.\n" for name in "ab")
    (tmp_path / "scores.csv").write_text(f"path,kind,decision,notice\n{rows}")
    jobs = Mock(get=lambda job: Mock(state="done", arguments=["score", str(tmp_path)]))
    jobs.result.return_value = tmp_path / "scores.csv"
    shown, _, remarks, _ = _results(Mock(jobs=jobs), Mock(), "job", EVERYTHING)
    assert Markup(remarks).text == "Generated data."
    assert "notice" not in shown["value"].columns


def test_a_table_of_another_format_is_offered_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "scores.parquet").write_bytes(b"PAR1\xff")
    (tmp_path / "first.txt").write_text("a\u2028b.png\n", encoding="utf-8")
    Image.new("RGB", (20, 10)).save(tmp_path / "a\u2028b.png")
    jobs = Mock(get=lambda job: Mock(state="done", arguments=["score", str(tmp_path)]))
    jobs.result.return_value = tmp_path / "scores.parquet"
    rows, first, remarks, file = _results(Mock(jobs=jobs), Mock(), "job", EVERYTHING)
    assert not rows["visible"]
    assert [name for _, name in first["value"]] == ["a\u2028b.png"]
    assert "This table is a .parquet file: download it." in Markup(remarks).text
    assert file["visible"]


def test_amounts_are_shown_in_full() -> None:
    cells = {"0.123456": "0.123", "1234": "1234", "1840.5": "1840.5", "007": "007", "inf": "inf", "a.b": "a.b"}
    assert {cell: _short(cell) for cell in cells} == cells
