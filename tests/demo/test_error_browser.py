"""The error browser shows each test sample that is chosen, once, and counts what a threshold misses and rejects."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from vlm_ft.demo.error_browser import (
    ALL,
    ESCAPES,
    FALSE_REJECTS,
    NONE_STORED,
    PER_PAGE,
    WRONG,
    Selection,
    classes_of,
    fields_of,
    samples,
    samples_view,
    threshold_now,
    threshold_view,
)
from vlm_ft.demo.errors_panel import _of_field, errors_panel

from tests.cards import answered
from tests.demo.conftest import HOSTILE
from tests.demo.test_views import Markup
from tests.evaluation.made import Scripted, defect_cases, form_of
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.evaluation.evaluate import ADAPTER, Evaluation, evaluate
from vlm_ft.inference.request import Request

CASES = 24


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """A third of the answers to `passed` are wrong, with probabilities that tell most of them apart."""
    cases, rng = defect_cases(tmp_path, CASES), np.random.default_rng(1)
    known = {case.example.images: case.values for case in cases}

    def answer_to(request: Request) -> Prediction:
        values = known[request.images]
        sure = float(np.clip(rng.normal(0.65 if values["passed"] else 0.35, 0.25), 0.01, 0.99))
        passed = FieldValue(sure >= 0.5, {"true": sure, "false": 1 - sure})
        return replace(answered(values), fields={**answered(values).fields, "passed": passed})

    return evaluate(Scripted(form_of("product_defects", cases), answer_to), "made", cases, ask_base=False)


def ids(evaluation: Evaluation, selection: Selection) -> list[str]:
    return [row.id for row in samples(evaluation, selection)]


def test_wrong_answers_are_shown_with_the_surest_first(evaluation: Evaluation) -> None:
    found = samples(evaluation, Selection("passed"))
    sure = [row.answers[ADAPTER].prediction.fields["passed"].probability for row in found]
    assert {row.id for row in found} == {row.id for row in evaluation.cases if row.answers[ADAPTER].score < 1}
    assert 0 < len(found) < CASES
    assert sure == sorted(sure, reverse=True)
    assert ids(evaluation, Selection("kind")) == []
    assert set(ids(evaluation, Selection())) == {row.id for row in found}
    assert len(ids(evaluation, Selection(show=ALL))) == CASES


def test_samples_are_chosen_by_their_true_class(evaluation: Evaluation) -> None:
    assert dict(fields_of(evaluation)) == {"Any field": "Any field", "Passed": "passed", "Kind": "kind"}
    classes = [name for _, name in classes_of(evaluation, "kind")][1:]
    assert classes == ["none", "pit", "scratch"]
    chosen = [name for kind in classes for name in ids(evaluation, Selection("kind", kind, ALL))]
    assert sorted(chosen) == sorted(row.id for row in evaluation.cases)
    assert classes_of(evaluation, "passed")[1:] == [("No", "false"), ("Yes", "true")]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_a_threshold_trades_misses_for_false_rejects(evaluation: Evaluation, threshold: float) -> None:
    """A part is rejected if the probability that it fails is above the threshold."""
    rejected = {
        row.id: row.answers[ADAPTER].prediction.fields["passed"].distribution["false"] > threshold
        for row in evaluation.cases
    }
    bad = {row.id for row in evaluation.cases if not row.truth["passed"]}
    escapes = {name for name in bad if not rejected[name]}
    false_rejects = {name for name in rejected.keys() - bad if rejected[name]}
    assert set(ids(evaluation, Selection("passed", show=ESCAPES, threshold=threshold))) == escapes
    assert set(ids(evaluation, Selection("passed", show=FALSE_REJECTS, threshold=threshold))) == false_rejects
    text = Markup(threshold_view(evaluation, "passed", threshold)).text
    assert f"Escapes{len(escapes)} of {len(bad)}" in text
    assert f"False rejects{len(false_rejects)} of {CASES - len(bad)}" in text
    assert f"--threshold passed={1 - threshold:.3g}" in text


def test_the_first_threshold_is_the_adapters_own(evaluation: Evaluation) -> None:
    own = threshold_now(evaluation.form, "passed")
    escapes, rejects = (
        ids(evaluation, Selection("passed", show=show, threshold=own)) for show in (ESCAPES, FALSE_REJECTS)
    )
    assert sorted([*escapes, *rejects]) == sorted(ids(evaluation, Selection("passed", show=WRONG)))
    assert threshold_now(evaluation.form.with_thresholds({"passed": 0.8}), "passed") == pytest.approx(0.2)


def test_each_sample_is_on_one_page(evaluation: Evaluation) -> None:
    rows = samples(evaluation, Selection(show=ALL))
    pages = [samples_view(evaluation, rows, page) for page in range(-(-len(rows) // PER_PAGE))]
    found = [name for page in pages for name in re.findall(r"part-\d+", Markup(page).text)]
    assert sorted(found) == sorted(row.id for row in rows)
    assert sum(page.count("<img") for page in pages) == CASES
    wrong = ids(evaluation, Selection())
    assert sum(page.count("<strong>wrong</strong>") for page in pages) == len(wrong)


def test_nothing_stored_becomes_markup(evaluation: Evaluation) -> None:
    (first, *_) = evaluation.cases
    answer = first.answers[ADAPTER].prediction
    hostile = replace(answer, decision="ask a person", reason=HOSTILE, error=HOSTILE)
    given = {ADAPTER: first.answers[ADAPTER].model_copy(update={"prediction": hostile})}
    changed = {"id": HOSTILE, "text": HOSTILE, "truth": {"kind": HOSTILE}, "images": ("/x/gone.png",), "answers": given}
    row = first.model_copy(update=changed)
    text = Markup(samples_view(evaluation, [row], 0)).text
    assert text.count(HOSTILE) == 5
    assert "gone.png" in text
    assert "/x/" not in text


def test_the_panel_says_what_to_do_without_an_evaluation() -> None:
    *_, shown, pages = _of_field(None, "Any field")
    assert NONE_STORED in shown
    assert pages["visible"] is False


@pytest.mark.parametrize("allowed", [True, False])
def test_the_samples_need_the_right_to_train(evaluation: Evaluation, tmp_path: Path, allowed: bool) -> None:
    """Each handler of the panel gives a value for each of its outputs, or refuses."""
    file = tmp_path / "evaluation.json"
    file.write_text(evaluation.model_dump_json())
    version = SimpleNamespace(evaluation=file)
    work: Any = SimpleNamespace(
        registry=SimpleNamespace(current=lambda name: version), may=lambda user, right: allowed and right == "train"
    )
    with gr.Blocks() as blocks:
        errors_panel(work, gr.Dropdown(["made"], value="made"))
    given = {"field": "passed", "true": "false", "show": ESCAPES, "threshold": 0.9, "page": 0}
    handlers = {entry.name: entry for entry in blocks.fns.values() if entry.name != "<lambda>"}
    assert handlers.keys() == {"opened", "of_field", "chosen", "turned"}
    for entry in handlers.values():
        names = list(inspect.signature(entry.fn).parameters)[1:-1]
        arguments = [given[name] for name in names]
        if not allowed:
            with pytest.raises(gr.Error, match="right to train"):
                entry.fn("made", *arguments, None)
            continue
        found = entry.fn("made", *arguments, None)
        assert len(entry.inputs) == 1 + len(names)
        assert (len(found) if isinstance(found, tuple) else 1) == len(entry.outputs)
        assert "<section" in (found if isinstance(found, str) else found[-2])
