"""The comparison asks every system, counts what it should, and survives a round trip through JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cards import answered
from tests.evaluation.made import Scripted, clause_cases, defect_cases, form_of
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.evaluation.evaluate import Case, Evaluation, evaluate
from vlm_ft.inference.request import BASE, Request


def value(evaluation: Evaluation, system: str, field: str, name: str) -> float:
    metrics = evaluation.systems[system]
    return next(metric.value for metric in metrics if (metric.field, metric.name) == (field, name))


def all_knowing(cases: list[Case]) -> Scripted:
    """The adapter knows everything; the bare base gives no valid answer."""
    known = {case.example.images or case.example.turns: case.values for case in cases}
    task = "product_defects" if cases[0].example.images else "legal_documents"

    def answer_to(request: Request) -> Prediction:
        if request.adapter == BASE:
            return Prediction.failed("answer is not JSON at character 0: 'I see'")
        return answered(known[request.images or request.turns])

    return Scripted(form_of(task, cases), answer_to)


def test_a_perfect_adapter_beats_base_and_majority(tmp_path: Path) -> None:
    cases = defect_cases(tmp_path)
    predictor = all_knowing(cases)
    evaluation = evaluate(predictor, "made", cases, train=cases[:7], chunk=5)
    assert list(evaluation.systems) == ["base", "adapter", "majority"]
    assert evaluation.counts == {"train": 7, "tune": 0, "test": 12}
    assert value(evaluation, "adapter", "findings", "f1") == 1
    assert value(evaluation, "adapter", "", "valid") == 1
    assert value(evaluation, "base", "", "valid") == value(evaluation, "base", "kind", "accuracy") == 0
    assert value(evaluation, "majority", "kind", "accuracy") == pytest.approx(1 / 3)
    assert not any(metric.name == "valid" for metric in evaluation.systems["majority"])
    assert {row.answers["adapter"].score for row in evaluation.cases} == {1.0}


def test_the_base_is_asked_like_the_adapter(tmp_path: Path) -> None:
    cases = defect_cases(tmp_path, 3)
    predictor = all_knowing(cases)
    evaluate(predictor, "made", cases)
    asked = {request.adapter: (request.form, request.like) for request in predictor.requests}
    assert asked == {BASE: (predictor.cards["made"].form, "made"), "made": (None, None)}


def test_json_keeps_everything() -> None:
    cases = clause_cases()
    evaluation = evaluate(all_knowing(cases), "made", cases, train=cases)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
    assert evaluation.cases[2].text == "Passage 2 of the contract."


def test_mistakes_are_reported() -> None:
    cases = clause_cases()
    predictor = all_knowing(cases)
    with pytest.raises(AdapterError, match="'mode' is not loaded; did you mean 'made'"):
        evaluate(predictor, "mode", cases)
    with pytest.raises(DataError, match="no test examples"):
        evaluate(predictor, "made", [])
