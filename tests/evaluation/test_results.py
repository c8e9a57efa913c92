"""Results are added, and replaced by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cards import answered, card_of
from tests.evaluation.made import Scripted, clause_cases, form_of
from vlm_ft.adapters import Card
from vlm_ft.answers.intervals import Figure
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.evaluation.evaluate import Evaluation, evaluate
from vlm_ft.evaluation.reliability import OWN, Alarm
from vlm_ft.evaluation.results import Result, read_results, record, results_of


def result(field: str = "kind", value: float = 0.5, command: str = "vlm-ft evaluate runs/a", **more: object) -> Result:
    content = {"set": "steel", "recipe": "steel_voc", "field": field, "metric": "macro_f1", "value": value}
    content |= {"low": 0.4, "high": 0.6, "n": 90, "minutes": 3.0, "rivals": {"majority": 0.1}, "command": command}
    return Result.model_validate({**content, **more})


@pytest.fixture(scope="module")
def evaluated() -> tuple[Evaluation, Card]:
    cases = clause_cases()
    form = form_of("legal_documents", cases)
    evaluation = evaluate(Scripted(form, lambda request: answered(cases[0].values)), "made", cases, train=cases)
    return evaluation, card_of(form, "made", training={"seconds": 90.0})


def test_the_main_figure_of_every_field_is_kept_with_its_rivals(evaluated: tuple[Evaluation, Card]) -> None:
    evaluation, card = evaluated
    found = results_of(evaluation, card, "vlm-ft evaluate run", {"risk.macro_f1": 0.9})
    assert [(one.field, one.metric) for one in found] == [
        ("clause_type", "macro_f1"),
        ("risk", "macro_f1"),
        ("summary", "rouge_l"),
    ]
    assert [one.goal for one in found] == [None, 0.9, None]
    with pytest.raises(
        RecipeError, match=r"--goal risk\.macrof1: not among the figures; did you mean 'risk\.macro_f1'"
    ):
        results_of(evaluation, card, "vlm-ft evaluate run", {"risk.macrof1": 0.9})
    assert {(one.set, one.recipe, one.n, one.minutes) for one in found} == {("drawn", "made", 6, 1.5)}
    assert all(set(one.rivals) == {"base", "majority"} for one in found)


def test_flagged_photos_are_recorded_with_their_goals(evaluated: tuple[Evaluation, Card]) -> None:
    evaluation, card = evaluated
    alarms = tuple(Alarm(of=of, count=20, flagged=Figure.of(0.95, (0.7, 1.0))) for of in (OWN, "food"))
    sureness = evaluation.sureness.model_copy(update={"alarms": alarms})
    evaluation = evaluation.model_copy(update={"sureness": sureness})
    *_, own, food = results_of(evaluation, card, "vlm-ft evaluate run")
    assert (own.metric, own.goal, food.metric, food.goal) == (f"flagged, {OWN}", 0.05, "flagged, food", 0.9)
    assert (food.value, food.low, food.high, food.n) == (0.95, 0.7, 1.0, 20)


def test_a_newer_figure_replaces_the_older_one_and_keeps_its_goal(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    record([result(goal=0.8), result("passed")], file)
    folded = result(command="vlm-ft crossval steel_voc --out cv", value=0.7)
    record([result(value=0.9, command="vlm-ft evaluate runs/b"), folded], file)
    replaced = result(value=0.9, command="vlm-ft evaluate runs/b", goal=0.8)
    assert read_results(file) == [replaced, result("passed"), folded]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("content", ["[{", '[{"set": "steel"}]', None])
def test_an_invalid_file_is_refused(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=r"results\.json"):
        read_results(file)
