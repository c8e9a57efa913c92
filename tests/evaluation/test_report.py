"""The page is self-contained, escaped and complete."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from datasets_vision.example import Turn
from tests.cards import answered
from tests.evaluation.made import Scripted, clause_cases, defect_cases, form_of
from vlm_ft.answers.prediction import Prediction
from vlm_ft.evaluation.evaluate import Case, Evaluation, evaluate
from vlm_ft.evaluation.pictures import pictures_of
from vlm_ft.evaluation.report import class_table, figures, galleries, html, markdown, write
from vlm_ft.inference.request import BASE, Request
from vlm_ft.tasks import TASKS

ATTACK = "<script>alert('|1|')</script>"


def half_right(cases: list[Case], task: str) -> Evaluation:
    """The base is always wrong; the adapter is right in the first half, and fails in the last case."""
    known = {case.example.images or case.example.turns: index for index, case in enumerate(cases)}

    def answer_to(request: Request) -> Prediction:
        index = known[request.images or request.turns]
        if request.adapter == BASE or index == len(cases) - 1:
            return Prediction.failed(f"no room for {ATTACK}")
        return answered(cases[index if index < len(cases) // 2 else index - 1].values)

    return evaluate(Scripted(form_of(task, cases), answer_to), "made", cases, train=cases)


@pytest.fixture(scope="module")
def defects(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return half_right(defect_cases(tmp_path_factory.mktemp("parts"), 24), "product_defects")


def test_files_are_written_and_follow_from_the_json(defects: Evaluation, tmp_path: Path) -> None:
    write(defects, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    read = Evaluation.model_validate_json((folder / "evaluation.json").read_text())
    assert (folder / "evaluation.md").read_text() == markdown(read)
    assert (folder / "evaluation.html").read_text() == html(read)


def test_an_interrupted_report_does_not_look_complete(
    defects: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm_ft.evaluation.report.html", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(defects, tmp_path)
    assert not (tmp_path / "evaluation.json").exists()


def test_an_unpaired_surrogate_does_not_lose_the_evaluation(tmp_path: Path) -> None:
    cases = clause_cases()
    broken = answered({**cases[0].values, "summary": "\ud800"})
    write(evaluate(Scripted(form_of("legal_documents", cases), lambda request: broken), "made", cases), tmp_path)
    read = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    assert read.cases[0].answers["adapter"].prediction.values["summary"] == "?"


def test_the_page_loads_nothing_from_outside(defects: Evaluation) -> None:
    page = html(defects)
    own = re.sub(r'src="data:image/jpeg;base64,[\w+/=]*"', "", page)
    assert not re.search(r"https?:|//\w|url\(|@import|<script|<link|src=", own)
    assert page.count("data:image/jpeg;base64,") == page.count("<img ") == page.count(' alt="Image') == 15
    assert len(page) < 1_000_000


def test_the_page_says_how_many_boxes_are_drawn(defects: Evaluation) -> None:
    page = html(defects)
    assert ", with 1 true and 1 answered boxes" in page
    assert "green corners are true" in page


def test_notice_and_figures_are_shown(defects: Evaluation) -> None:
    page = html(defects)
    assert "Trained on generated drawings" in page
    for line in figures(defects):
        assert f'<th scope="row">{line.field}</th><td class="metric">{line.name}</td>' in page


def test_the_best_is_marked_and_is_clear_only_without_overlap(defects: Evaluation) -> None:
    line = next(line for line in figures(defects) if (line.field, line.name) == ("kind", "accuracy"))
    marks = {cell.system: (cell.best, cell.clear) for cell in line.cells}
    assert marks["base"] == (False, False)
    assert marks["adapter"][0]
    assert "**" in markdown(defects)
    assert all(len(row.split("|")) == 8 for row in markdown(defects).splitlines() if row.startswith("|"))


def test_class_table_counts_every_case(defects: Evaluation) -> None:
    table = class_table(defects.form.field("kind"), defects.cases)
    assert table.columns == ("none", "pit", "scratch", "(no answer)")
    assert sum(count for row in table.rows for count, _ in row.cells) == 24
    hits = sum(row.cells[place][0] for place, row in enumerate(table.rows))
    accuracy = next(m.value for m in defects.systems["adapter"] if (m.field, m.name) == ("kind", "accuracy"))
    assert hits / 24 == pytest.approx(accuracy)


def test_galleries_show_no_case_twice_and_only_mistakes_as_wrong(defects: Evaluation) -> None:
    shown = {title: rows for title, _, rows in galleries(defects)}
    ids = [row.id for rows in shown.values() for row in rows]
    assert len(ids) == len(set(ids)) == 15
    assert all(row.answers["adapter"].score < 1 for title in ("Worst", "Also wrong") for row in shown[title])
    assert all(row.answers["adapter"].score == 1 for row in shown["Best"])


def attacking(case: Case, text: str) -> Case:
    example = replace(case.example, id=text, turns=(Turn("user", text),))
    return Case(example, {**case.values, "summary": text, "clause_type": text})


def test_text_of_data_and_models_is_escaped() -> None:
    cases = [attacking(case, f"{ATTACK}{index}") for index, case in enumerate(clause_cases())]
    page = html(half_right(cases, "legal_documents"))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 10
    assert "<script" not in markdown(half_right(cases, "legal_documents"))


def test_texts_are_shown_in_full() -> None:
    page = html(half_right(clause_cases(), "legal_documents"))
    assert all(f"Passage {index} of the contract." in page for index in range(6))
    assert "rouge_l" in page
    assert "<img" not in page


def test_a_missing_picture_is_reported(defects: Evaluation, tmp_path: Path) -> None:
    lost = tuple(row.model_copy(update={"images": (str(tmp_path / "gone.png"),)}) for row in defects.cases)
    page = html(defects.model_copy(update={"cases": lost}))
    assert "gone.png" in page
    assert "<img" not in page


def test_boxes_lie_in_the_photo_that_their_item_names(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{number}.png") for number in (1, 2)]
    for name in names:
        Image.new("RGB", (20, 10)).save(name)
    fields = TASKS["product_defects"].fields
    found = [
        {"kind": "pit", "severity": "minor", "box": [0, 0, 500, 500], "photo": 1},
        {"kind": "dent", "severity": "minor", "box": [0, 0, 100, 100]},
    ]
    first, last = pictures_of(names, fields, {"findings": found}, {"findings": [{**found[0], "photo": 8}]})
    assert (first.true, first.answered, last.true, last.answered) == (1, 0, 1, 1)
