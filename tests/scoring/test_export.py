"""Every task's sample answer survives a round trip through every format."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cards import card_of, sample_prediction
from tests.forms import form_of, whole_form
from vlm_ft.answers.confidence import Bound, Confidence, with_confidence
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.kinds import Choice, Flag, Integer, Text
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Task
from vlm_ft.inference.remote import SERVER
from vlm_ft.recipe import find_rate_card
from vlm_ft.scoring.export import SUFFIXES, columns, write_table
from vlm_ft.scoring.ledger import Ledger, Row
from vlm_ft.tasks import TASKS
from vlm_ft.tasks.aviation_maintenance import PRIORITIES

BESIDE = ("path", "sha256", "width", "height", "decision", "reason", "error", "adapter", "card", "notice")


def read_table(out: Path) -> list[dict[str, Any]]:
    if out.suffix == ".parquet":
        return pq.read_table(out).to_pylist()
    text = out.read_text(encoding="utf-8")
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return [{name: _cell(cell) for name, cell in row.items()} for row in csv.DictReader(text.splitlines())]


def _cell(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text or None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_a_sample_survives_the_round_trip(
    task: Task,
    suffix: str,
    tmp_path: Path,
) -> None:
    card, out = card_of(whole_form(task)), tmp_path / f"out{suffix}"
    rows = [
        Row("a.png", "0a", 3, 2, sample_prediction(task)),
        Row("b.png", "", None, None, Prediction.failed("truncated")),
    ]
    write_table(out, card, rows)
    answered, failed = read_table(out)
    sample = task.sample.model_dump(mode="json")
    column_of = {name: f"answer_{name}" if name in BESIDE else name for name in sample}
    assert {name: answered[column_of[name]] for name in sample} == sample
    assert all(answered[f"{name}_count"] == len(value) for name, value in sample.items() if isinstance(value, list))
    assert answered["notice"] == card.notice
    assert (answered["card"], answered["sha256"], failed["sha256"]) == (card.fingerprint, "0a", None)
    assert failed["error"] == "truncated"
    assert all(failed[name] is None for name in column_of.values())
    assert list(answered) == [column.name for column in columns(card)]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_derived_results_survive_the_round_trip(suffix: str, tmp_path: Path) -> None:
    card = card_of(whole_form(TASKS["car_damage"]))
    form = card.form.with_derivation(read_rate_card(find_rate_card("example_eur")))
    card = card.model_copy(update={"form": form.with_derivation(PRIORITIES)})
    answer = sample_prediction(TASKS["car_damage"])
    derived = card.form.derive(answer.values)
    with Ledger(tmp_path / "ledger", "trial", "0", tmp_path) as ledger:
        ledger.record([Row("a.png", "0", 3, 2, replace(answer, derived=derived))])
        kept = ledger.find("a.png")
    write_table(tmp_path / f"out{suffix}", card, [kept, Row("b.png", "1", 3, 2, Prediction.failed("truncated"))])
    row, failed = read_table(tmp_path / f"out{suffix}")
    estimate, priority = derived["estimate"], derived["priority"]
    for name in ("low", "high", "currency", "complete", "lines", "not_priced"):
        assert row[f"estimate_{name}"] == estimate[name]
        assert failed[f"estimate_{name}"] is None
    assert row["priority"] == priority["priority"] == "next_check"
    assert [text.split(":")[0] for text in row["priority_reasons"]] == ["dent", "scratch"]
    assert failed["priority"] is None
    assert "Example prices" in row["notice"]


def test_a_field_named_like_a_column_keeps_its_own_column(tmp_path: Path) -> None:
    form = form_of(decision=Choice(options=("yes", "no")), kind=Flag(), kind_probability=Integer(minimum=0, maximum=9))
    card = card_of(form)
    answer = Prediction(
        fields={
            "decision": FieldValue("yes", {"yes": 0.75, "no": 0.25}),
            "kind": FieldValue(True, {"true": 0.9, "false": 0.1}),
            "kind_probability": FieldValue(7),
        }
    )
    write_table(tmp_path / "out.jsonl", card, [Row("a.png", "0", 1, 1, answer)])
    row = read_table(tmp_path / "out.jsonl")[0]
    assert (row["decision"], row["answer_decision"], row["decision_probability"]) == ("answer", "yes", 0.75)
    assert (row["kind"], row["kind_probability"], row["answer_kind_probability"]) == (True, 7, 0.9)


def test_the_notice_says_where_a_server_s_probabilities_come_from(tmp_path: Path) -> None:
    own = Prediction(fields={"kind": FieldValue(True, {"true": 0.9, "false": 0.1})})
    rows = [
        Row(f"{place}.png", "0", 1, 1, replace(own, probabilities=source))
        for place, source in enumerate((None, SERVER))
    ]
    card = card_of(form_of(kind=Flag()))
    write_table(tmp_path / "out.jsonl", card, rows)
    plain, marked = (row["notice"] for row in read_table(tmp_path / "out.jsonl"))
    assert plain == card.notice
    assert marked == f"{card.notice} Probabilities: {SERVER}."


def test_a_distribution_names_options_as_json_does() -> None:
    assert FieldValue(False, {"true": 0.1, "false": 0.9}).probability == 0.9
    assert FieldValue(3, {"3": 0.5}).probability == 0.5
    assert FieldValue(3).probability is None


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "＝1"])
def test_a_spreadsheet_runs_no_text_as_a_formula(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    fields = {"clause_type": FieldValue(text), "summary": FieldValue(text)}
    card = card_of(whole_form(TASKS["legal_documents"]))
    write_table(out, card, [Row(text, "0", 1, 1, Prediction(fields=fields, reason=text))])
    with out.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert {row[name] for name in ("path", "clause_type", "summary", "reason")} == {f"'{text}"}


def test_an_unpaired_surrogate_becomes_a_question_mark(tmp_path: Path) -> None:
    answer = Prediction(fields={"summary": FieldValue(json.loads('"\\ud800"'))})
    with Ledger(tmp_path / "ledger", "trial", "0", tmp_path) as ledger:
        ledger.record([Row("a.png", "0", 1, 1, answer)])
        row = ledger.find("a.png")
    write_table(tmp_path / "out.parquet", card_of(whole_form(TASKS["legal_documents"])), [row])
    assert read_table(tmp_path / "out.parquet")[0]["summary"] == "?"


def test_a_failed_write_keeps_the_old_table(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")

    def broken() -> Any:
        yield Row("a.png", "0", 1, 1, Prediction())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_table(out, card_of(whole_form(TASKS["legal_documents"])), broken())
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_calibrated_adapter_s_table_says_what_to_ask_a_person_of_each_field(tmp_path: Path) -> None:
    form = form_of(kind=Choice(options=("dent", "scratch")), passed=Flag(), note=Text(max_length=9))
    bound = Bound(risk=0.05, level=0.9, threshold=0.8, count=100, needed=45)
    confidence = Confidence(temperatures={}, bound=bound, bounds={"kind": bound, "passed": bound})
    given = Prediction(
        {
            "kind": FieldValue("dent", {"dent": 0.95, "scratch": 0.05}),
            "passed": FieldValue(True, {"true": 0.7, "false": 0.3}),
            "note": FieldValue("left"),
        }
    )
    card = card_of(form).model_copy(update={"confidence": confidence})
    row = Row("a.png", "0", 1, 1, with_confidence(form, given, confidence))
    write_table(tmp_path / "out.jsonl", card, [row, Row("b.png", "1", 1, 1, Prediction.failed("truncated"))])
    found, failed = read_table(tmp_path / "out.jsonl")
    assert (found["kind_decision"], found["kind_reason"]) == ("answer", None)
    assert (found["passed_decision"], found["passed_reason"]) == ("ask a person", "70% sure, below 80%")
    assert (failed["kind_decision"], failed["kind_reason"]) == (None, None)
    assert not any(name.startswith("note_") for name in found)
