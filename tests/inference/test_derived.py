"""Results derived from an answer come with it, and their tables are stored in the adapter's card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets_vision.example import Turn
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.form import Form
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.recipe import find_rate_card
from vlm_ft.tasks import TASKS


def test_a_prediction_carries_its_derived_results(tiny_folder: Callable[[str], Path]) -> None:
    engine = Engine.open([], base=str(tiny_folder("qwen3_vl")))
    options = {"kind": ["dent", "crack"], "findings.kind": ["dent"], "findings.part": ["door"]}
    aircraft = Form.of(TASKS["aviation_maintenance"], {"kind": ["dent", "crack"]}, ["kind"])
    car = Form.of(TASKS["car_damage"], options, ["kind"]).model_copy(
        update={"derivations": (read_rate_card(find_rate_card("example_eur")),)}
    )
    turns = (Turn("user", "A long crack."),)
    priced, unpriced = engine.predict([Request(turns=turns, form=aircraft), Request(turns=turns, form=car)])
    assert priced.error is None
    assert priced.derived == aircraft.derive(priced.values)
    assert priced.derived["priority"]["priority"] in ("next_check", "before_next_flight")
    assert unpriced.derived == {}
