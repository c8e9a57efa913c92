"""The errors of derived results, in money and in priorities, compared with those derived from the labels."""

from __future__ import annotations

from typing import Any

import pytest

from datasets_vision.example import Example, Turn
from tests.cards import answered
from tests.evaluation.made import Scripted, form_of
from vlm_ft.answers.derivations.estimate import Rate, RateCard
from vlm_ft.answers.form import Form
from vlm_ft.answers.metrics import Metric
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.evaluation.derived import in_words, incomplete, measure_derived
from vlm_ft.evaluation.evaluate import Case, Evaluation, evaluate
from vlm_ft.evaluation.report import html, markdown
from vlm_ft.tasks.aviation_maintenance import PRIORITIES

PRICES = {"door": 100.0, "hood": 200.0, "roof": 400.0}
CARD = RateCard(
    name="own",
    version="1",
    notice="Own prices.",
    currency="EUR",
    rates=tuple(
        Rate(
            part=part, kind="*", severity="*", labour_hours=1, labour_rate=price - 10, parts_low=0, parts_high=20
        )  # so that the midpoint is the price
        for part, price in PRICES.items()
    ),
)


def values(*parts: str, kind: str = "dent") -> Values:
    return {"findings": [{"part": part, "kind": kind, "box": [0, 0, 9, 9]} for part in parts]}


def form() -> Form:
    cases = [Case(Example(id="x"), values(*PRICES, "wing")), Case(Example(id="y"), values("door", kind="crack"))]
    return form_of("car_damage", cases).with_derivation(CARD)


def figures(truths: list[Values], answers: list[Values], asked: Form | None = None) -> dict[str, Metric]:
    asked = asked or form()
    metrics = measure_derived(
        asked, [asked.derive(entry) for entry in truths], [asked.derive(entry) for entry in answers], [""] * len(truths)
    )
    return {f"{metric.field} {metric.name}": metric for metric in metrics}


def test_errors_in_money_are_measured_where_both_answers_have_a_price() -> None:
    truths = [values("door"), values("hood"), values("roof"), values("door", "hood")]
    answers = [values("door"), values("door"), values("wing"), {}]
    found = figures(truths, answers)
    assert found["estimate in EUR mae"].value == 50  # of 0 and 100
    assert found["estimate in EUR mae"].count == 2
    assert found["estimate in EUR median_error"].value == 50
    assert found["estimate in EUR within_20_percent"].value == 0.25
    assert found["estimate in EUR within_20_percent"].count == 4
    assert found["estimate in EUR not_priced"].value == 0.5
    assert all(metric.low <= metric.value <= metric.high for metric in found.values())


def test_right_answers_cost_what_the_labels_cost() -> None:
    truths = [values("door"), values(), values("hood", "roof")]
    found = figures(truths, truths)
    assert {name.split()[-1]: metric.value for name, metric in found.items()} == {
        "mae": 0,
        "median_error": 0,
        "within_20_percent": 1,
        "not_priced": 0,
    }
    assert all(metric.low <= metric.value <= metric.high for metric in found.values())
    assert found["estimate in EUR within_20_percent"].low < 0.5  # three cases say little


def test_labels_without_a_price_are_reported_and_left_out() -> None:
    truths = [values("door"), values("wing")]
    assert figures(truths, truths)["estimate in EUR not_priced"].count == 1
    asked = form()
    (note,) = incomplete(asked, [asked.derive(entry) for entry in truths])
    assert note.startswith("The labels of 1 of 2 examples do not determine the estimate by own 1")
    assert figures([values("wing")], [values("door")]) == {}


def test_without_a_price_there_is_no_error_in_money() -> None:
    found = figures([values("door")], [values("wing")])
    assert set(found) == {"estimate in EUR within_20_percent", "estimate in EUR not_priced"}


def test_a_form_that_cannot_be_priced_has_no_such_figures() -> None:
    asked = form()
    findings = asked.field("findings")
    narrow = asked.model_copy(update={"fields": (findings.model_copy(update={"kind": findings.kind.fields[-1].kind}),)})  # type: ignore[union-attr]
    assert measure_derived(narrow, [{}], [{}], [""]) == ()


def test_priorities_are_compared_by_accuracy() -> None:
    asked = form_of(
        "aviation_maintenance", [Case(Example(id=kind), {"kind": kind}) for kind in ("dent", "crack", "leak", "none")]
    )
    assert asked.derivations == (PRIORITIES,)
    kinds = ["dent", "crack", "leak", "none"]
    found = figures(
        [{"kind": kind} for kind in kinds], [{"kind": "dent"}, {"kind": "leak"}, {"kind": "dent"}, {}], asked
    )
    assert found["priority accuracy"].value == 0.5  # a leak is as urgent as a crack


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    asked = form()
    parts = ["door", "hood", "roof", "wing"]
    cases = [Case(Example(id=part, turns=(Turn("user", part),)), values(part)) for part in parts]

    def answer_to(request: Any) -> Prediction:
        part = request.turns[0].text
        return Prediction.failed("no answer") if part == "roof" else answered(values(part))

    return evaluate(Scripted(asked, answer_to), "made", cases, train=cases)


def test_an_evaluation_contains_the_error_in_money(evaluation: Evaluation) -> None:
    found = {metric.name: metric for metric in evaluation.systems["adapter"] if metric.field == "estimate in EUR"}
    assert found["mae"].value == 0
    assert found["not_priced"].value == pytest.approx(1 / 3)
    assert evaluation.cases[0].derived == evaluation.cases[0].answers["adapter"].prediction.derived != {}
    assert evaluation.cases[2].answers["adapter"].prediction.derived == {}
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_the_report_shows_derived_results(evaluation: Evaluation) -> None:
    for page in (markdown(evaluation), html(evaluation)):
        assert "Own prices." in page
        assert "labels of 1 of 4 examples do not determine the estimate" in page
        assert "within_20_percent" in page
    assert "EUR 190 to 210" in html(evaluation)


def test_derived_results_are_put_into_words() -> None:
    assert in_words(CARD, form().derive(values("door", "wing"))) == "EUR 90 to 110, 1 not priced"
    aircraft = {"priority": PRIORITIES.derive({"kind": "dent"}).model_dump()}  # type: ignore[union-attr]
    assert in_words(PRIORITIES, aircraft) == "next check"
    assert in_words(PRIORITIES, {}) == "nothing"
