"""The table of a scoring job, of any kind, and what is shown beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
from PIL import Image
from vlm_ft.demo.batch_tab import ANSWERED, EVERYTHING, UNCERTAIN, _filtered, _pictures, _results, _unshown
from vlm_ft.demo.scores import _short

from tests.cards import sample_prediction
from tests.demo.conftest import card_of
from tests.demo.test_views import Markup
from vlm_ft.adapters import PEFT_FILES
from vlm_ft.answers.confidence import closed_fields
from vlm_ft.answers.prediction import Prediction
from vlm_ft.scoring.export import write_table
from vlm_ft.scoring.ledger import Row
from vlm_ft.tasks import TASKS


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


TASK = TASKS["product_defects"]
CARD = card_of(TASK)
SURE = (0.5, 0.9, None)  # of each row; the last one failed


@pytest.fixture(params=["csv", "parquet", "jsonl"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table of three rows, with the card of its adapter and the photos."""
    rows = []
    for number, sure in enumerate(SURE):
        answer = Prediction.failed("no image")
        if sure is not None:
            answer = replace(sample_prediction(TASK, sure), decision="answer" if sure == 0.9 else "ask a person")
        rows.append(Row(f"00{number}.png", "", 20, 10, answer))
    CARD.write(tmp_path)
    for name in PEFT_FILES:
        (tmp_path / name).touch()
    place = tmp_path / f"scores.{request.param}"
    write_table(place, CARD, rows)
    return place


def results(file: Path, show: str = EVERYTHING, surest: float = 1) -> tuple[str, pd.DataFrame, list[str], str]:
    """What is counted, the rows with the kinds of their columns, and the remarks."""
    folder = str(file.parent)
    jobs = Mock(get=lambda job: Mock(state="done", arguments=["score", folder, "--adapter", folder]))
    jobs.result.return_value = file
    counted, rows, _, remarks, download = _results(Mock(jobs=jobs), Mock(), "job", show, surest)
    assert download["visible"]
    again, filtered = _filtered(Mock(jobs=jobs), "job", show, surest)
    assert (again, list(filtered["value"]["path"])) == (counted, list(rows["value"]["path"]))
    return Markup(counted).text, rows["value"], rows["datatype"], Markup(remarks).text


def test_rows_are_chosen_by_decision_and_confidence(file: Path) -> None:
    counted, rows, *_ = results(file)
    assert counted == "3 of 3 rows"
    assert list(rows["path"]) == ["000.png", "001.png", "002.png"]
    for show, surest, kept in ((ANSWERED, 1, [1]), (UNCERTAIN, 1, [0, 2]), (EVERYTHING, 0.6, [0, 2])):
        counted, rows, *_ = results(file, show, surest)
        assert list(rows["path"]) == [f"00{number}.png" for number in kept]
        assert counted == f"{len(kept)} of 3 rows"


def test_of_many_rows_the_least_certain_are_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_ft.demo.batch_tab.MAX_ROWS", 2)
    counted, rows, *_ = results(file)
    assert list(rows["path"]) == ["000.png", "002.png"]
    assert "least certain are shown; the file has all" in counted


def test_a_table_is_read_once_until_it_is_written_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(file)
    with monkeypatch.context() as patch:
        patch.setattr("vlm_ft.demo.batch_tab.scores_in", lambda *_: pytest.fail("read again"))
        assert results(file, ANSWERED)[0] == "1 of 3 rows"
    write_table(file, CARD, [Row("other.png", "", 20, 10, sample_prediction(TASK, 0.9))])
    assert list(results(file)[1]["path"]) == ["other.png"]


def test_numbers_are_numbers_whatever_the_kind_of_table(file: Path) -> None:
    _, rows, kinds, _ = results(file)
    found = dict(zip(rows, kinds, strict=True))
    assert {name for name, kind in found.items() if kind == "number"} >= {"confidence", "findings count"}
    assert found["path"] == found["kind"] == "str"
    fields = len(closed_fields(CARD.form))
    assert list(rows["confidence"].dropna()) == pytest.approx([sure**fields for sure in SURE if sure], rel=0.01)


def test_the_notice_of_the_answers_is_shown_once(file: Path) -> None:
    _, rows, _, remarks = results(file)
    assert CARD.notice
    assert remarks == CARD.notice
    assert "notice" not in rows


def test_photos_to_review_that_were_deleted_are_not_missed(file: Path, tmp_path: Path) -> None:
    file.with_name("first.txt").write_text("000.png\n", encoding="utf-8")
    assert "Photos that cannot be shown: 1" in results(file)[3]
    arguments = ["score", str(tmp_path / "gone"), "--adapter", str(tmp_path)]
    jobs = Mock(get=lambda job: Mock(state="done", arguments=arguments), result=lambda *_: file)
    remarks = Markup(_results(Mock(jobs=jobs), Mock(), "job", EVERYTHING, 100)[3]).text
    assert "The photos have been deleted." in remarks
    assert "cannot be shown" not in remarks


def test_amounts_are_shown_in_full() -> None:
    cells = {0.123456: 0.123, 1234: 1234, 1840.5: 1840.5, "007": "007", "a.b": "a.b", "0.123456": "0.123456"}
    assert {cell: _short(cell) for cell in cells} == cells
