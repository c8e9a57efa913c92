"""Adapters and their base are asked about one photo in one batch, and shown side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vlm_ft.demo.compare_tab import BARE, Column, compare, comparison_view

from tests.cards import sample_prediction
from tests.demo.conftest import HOSTILE, card_of
from tests.demo.test_views import Markup
from tests.families import tower_inputs
from vlm_ft.adapters import ADAPTER
from vlm_ft.answers.confidence import Bound, Confidence
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import DataError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Attributed
from vlm_ft.recipe import find_rate_card
from vlm_ft.tasks import TASKS


def test_the_photo_passes_through_the_tower_once(run_of: Callable[..., Path], drawings: Path) -> None:
    photo = next((drawings / "JPEGImages").glob("*.png"))
    folder = run_of("fast_vlm") / ADAPTER
    engine = Engine.open([folder])
    engine.add("again", folder)
    with tower_inputs(engine.base) as seen:
        _, columns = compare(engine, [str(photo)], ["trial", "again"], base=True)
        together = sum(seen)
        compare(engine, [str(photo)], ["trial"], base=False)
    assert 2 * together == sum(seen)
    assert [column.name for column in columns] == ["trial", "again", BARE]
    first, second, _ = (column.prediction.values for column in columns)
    assert first == second


def test_the_base_fills_in_each_form(known: Any, photo: Path) -> None:
    known.cards["cars"] = card_of(TASKS["car_damage"], "cars")
    known.predict = lambda requests: known.asked.extend(requests) or [Attributed.failed("busy")] * len(requests)
    _, columns = compare(known, [str(photo)], ["cars", "plates", "hostile"], base=True, by="ann")
    assert [(request.adapter, request.like) for request in known.asked] == [
        ("cars", None),
        ("plates", None),
        ("hostile", None),
        (BASE, "cars"),
        (BASE, "plates"),  # hostile's form is the same
    ]
    assert {request.by for request in known.asked} == {"ann"}
    assert len({id(request.images[0]) for request in known.asked}) == 1
    assert f"{BARE}, asked as plates" in Markup(comparison_view(columns)).headings
    known.asked.clear()
    compare(known, [str(photo)], ["plates"], base=False)
    assert [request.adapter for request in known.asked] == ["plates"]


def test_each_answer_is_shown_with_the_case_number_of_the_decision_log(known: Any, photo: Path) -> None:
    _, columns = compare(known, [str(photo)], ["plates", "hostile"], base=True)
    logged = [request.case for request in known.asked]
    assert None not in logged
    assert len(set(logged)) == 3
    shown = Markup(comparison_view(columns)).text
    assert all(case in shown for case in logged)


def test_answers_that_differ_are_marked(known: Any, photo: Path) -> None:
    pictures, columns = compare(known, [str(photo)], ["plates", "hostile"], base=False)
    assert [caption for _, caption in pictures] == ["plates", "hostile"]
    text = Markup(comparison_view(columns)).text
    assert HOSTILE in text
    assert "Kind differs" in text
    assert "Passed differs" not in text
    assert text.count("Ask a person") == 1


def test_the_bare_base_is_not_taken_for_calibrated(known: Any, photo: Path) -> None:
    bound = Bound(risk=0.05, level=0.9, threshold=0.8, count=100, needed=45)
    calibrated = {"confidence": Confidence(temperatures={}, bound=bound)}
    known.cards["plates"] = known.cards["plates"].model_copy(update=calibrated)
    _, (adapter, base) = compare(known, [str(photo)], ["plates"], base=True)
    assert (adapter.calibrated, base.calibrated) == (True, False)
    assert Markup(comparison_view([adapter])).text.count("Answer, not calibrated") == 0
    assert Markup(comparison_view([adapter, base])).text.count("Answer, not calibrated") == 1


FOUND = [("scratch", "major", 5), ("chip", "minor", 0)]


@pytest.mark.parametrize(
    ("found", "differs"),
    [
        (FOUND[::-1], False),
        ([("scratch", "major", 5), ("chip", "major", 0)], True),
        ([("scratch", "major", 5), ("chip", "minor", 1)], True),
        ([], True),
    ],
)
def test_items_are_compared_by_all_their_values_in_any_order(found: list[tuple[str, str, int]], differs: bool) -> None:
    columns = [
        Column("one", card_of(TASKS["product_defects"]), Prediction({"findings": FieldValue(items)}), "1")
        for items in (_items(FOUND), _items(found))
    ]
    assert ("Findings differs" in Markup(comparison_view(columns)).text) is differs


def _items(found: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    return [{"kind": kind, "severity": severity, "box": [left, 0, 90, 90]} for kind, severity, left in found]


def test_an_empty_text_differs_from_another() -> None:
    card = card_of(TASKS["legal_documents"])
    columns = [Column(text, card, Prediction({"summary": FieldValue(text)}), "1") for text in ("", "Audits.")]
    assert "Summary differs" in Markup(comparison_view(columns)).text


def test_derived_results_and_errors_are_shown(known: Any, photo: Path) -> None:
    car = card_of(TASKS["car_damage"], "cars")
    form = car.form.with_derivation(read_rate_card(find_rate_card("example_eur")))
    known.cards = {"cars": car.model_copy(update={"form": form}), "plates": known.cards["plates"]}
    answer = sample_prediction(TASKS["car_damage"])
    answers = [
        Prediction(
            {**answer.fields, "damaged": FieldValue(True, {"true": 0.9, "false": 0.1})},
            derived=form.derive(answer.values),
        ),
        Prediction.failed("the photo is too large"),
    ]
    known.predict = lambda requests: [Attributed.to(None, answer) for answer in answers]
    text = Markup(comparison_view(compare(known, [str(photo)], ["cars", "plates"], base=False)[1])).text
    assert "EUR 558 to 748" in text
    assert "90 %" in text
    assert "No answer: the photo is too large" in text


@pytest.mark.parametrize(("photos", "adapters"), [(0, ["plates"]), (2, ["plates"]), (1, [])])
def test_one_photo_and_an_adapter_are_needed(known: Any, photo: Path, photos: int, adapters: list[str]) -> None:
    with pytest.raises(DataError, match="Choose one photo and at least one adapter"):
        compare(known, [str(photo)] * photos, adapters, base=True)
    assert known.asked == []
