"""Tables of texts are scored like folders of photos, and the review page shows the right answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.cards import card_of, sample_prediction
from tests.forms import whole_form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.inference.request import Request
from vlm_ft.scoring.score import score_folder
from vlm_ft.tasks import TASKS


@pytest.fixture
def clauses() -> Any:
    """Answers with the sample, but leaves texts with a question mark to a person."""
    task = TASKS["legal_documents"]

    def answer(request: Request) -> Prediction:
        assert not request.images
        asked = "?" in request.turns[0].text
        return replace(sample_prediction(task), decision="ask a person" if asked else "answer", reason="?" * asked)

    class Texts:
        def __init__(self) -> None:
            self.cards = {"trial": card_of(whole_form(task), inputs=("text",))}

        def predict(self, requests: list[Request]) -> list[Prediction]:
            return [answer(request) for request in requests]

    return Texts()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_every_text_is_one_row(suffix: str, clauses: Any, tmp_path: Path) -> None:
    rows = [{"id": number, "clause": f"Clause {number}{'?' if number == 3 else ''}"} for number in range(7)]
    table = tmp_path / f"mail{suffix}"
    lines = ["id,clause", *(f"{row['id']},{row['clause']}" for row in rows)]
    table.write_text("\n".join(lines if suffix == ".csv" else map(json.dumps, rows)) + "\n", encoding="utf-8")
    out, page = tmp_path / "out.parquet", tmp_path / "review.html"
    report = score_folder(clauses, "trial", table, out, batch_size=3, text="{clause}", review=page)
    found = pq.read_table(out).to_pylist()
    assert len(found) == report.scored == 7
    assert len({row["path"] for row in found}) == 7
    assert [row["decision"] for row in found].count("ask a person") == report.ask_a_person == 1
    assert "1 answer for a person" in page.read_text(encoding="utf-8")
    again = score_folder(clauses, "trial", table, out, batch_size=3, text="{clause}")
    assert again.resumed == 7


def test_a_table_is_not_written_among_those_it_answers(clauses: Any, tmp_path: Path) -> None:
    (tmp_path / "mail.csv").write_text("clause\nOne.\n")
    with pytest.raises(DataError, match=r"out\.csv: lies among the tables in .*; write it elsewhere"):
        score_folder(clauses, "trial", tmp_path, tmp_path / "out.csv", text="{clause}")
    with pytest.raises(DataError, match=r"text 'clause' shows no column; put one in braces: \{clause\}"):
        score_folder(clauses, "trial", tmp_path / "mail.csv", tmp_path / "out.csv", text="clause")


def test_photos_and_texts_are_not_confused(clauses: Any, defects: Any, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"reads text only.*--text"):
        score_folder(clauses, "trial", photos, tmp_path / "out.csv")
    defects.cards["trial"] = defects.cards["trial"].model_copy(update={"inputs": ("photo",)})
    with pytest.raises(AdapterError, match="reads photos only"):
        score_folder(defects, "trial", photos, tmp_path / "out.csv", text="{clause}")
    with pytest.raises(DataError):
        score_folder(clauses, "trial", tmp_path / "none.csv", tmp_path / "out.csv", text="{clause}")


def test_the_page_lists_failures_then_the_strangest_then_the_least_sure(
    defects: Any, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    plain = sample_prediction(TASKS["product_defects"])

    def asked(strange: float, sure: float) -> Prediction:
        distribution = {"scratch": sure, "another": 1 - sure}
        fields = {**plain.fields, "kind": FieldValue("scratch", distribution)}
        reason = f"<b>strange {strange}, sure {sure}</b>"
        return replace(plain, fields=fields, decision="ask a person", strange=strange, reason=reason)

    answers = {(0, 0, 0): asked(0.2, 0.9), (1, 0, 0): asked(3.0, 0.99), (2, 0, 0): asked(0.2, 0.4)}
    defects._answer = lambda request: answers.get(Image.Image.getpixel(request.images[0], (0, 0)), plain)
    page = tmp_path / "review.html"
    report = score_folder(defects, "trial", photos, tmp_path / "out.csv", review=page)
    text = page.read_text(encoding="utf-8")
    places = [text.index(name) for name in ("broken.png", "odd/001.png", "even/000.png")]
    assert places == sorted(places)
    assert "even/004.png" not in text
    assert "&lt;b&gt;strange 3.0" in text
    assert "<b>" not in text
    assert text.count("data:image/jpeg") == report.ask_a_person == 3
