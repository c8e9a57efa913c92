"""A prediction survives a round trip through JSON, whatever a model wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vlm_ft.answers.prediction import FieldValue, Prediction

ANSWER = Prediction(
    fields={
        "kind": FieldValue("dent", {"dent": 0.75, "pit": 0.25}),
        "passed": FieldValue(False, {"true": 0.1, "false": 0.9}),
        "count": FieldValue(3),
        "findings": FieldValue([{"kind": "dent", "box": [0, 0, 9, 9]}]),
    },
    decision="ask a person",
    reason="kind: 75% sure",
    derived={"priority": {"priority": "monitor"}},
)


@pytest.mark.parametrize("prediction", [ANSWER, Prediction.failed("no room: ½ {")], ids=["answer", "error"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_prediction_survives_the_round_trip(prediction: Prediction, indent: int | None) -> None:
    assert Prediction.from_json(prediction.to_json(indent)) == prediction


def test_a_field_is_a_value_and_its_distribution() -> None:
    record = json.loads(ANSWER.to_json(notice="Research use."))
    assert record["fields"]["kind"] == {"value": "dent", "distribution": {"dent": 0.75, "pit": 0.25}}
    assert record["fields"]["count"] == {"value": 3}
    assert record["notice"] == "Research use."


def test_an_unpaired_surrogate_becomes_a_question_mark() -> None:
    assert Prediction.from_json(replace(ANSWER, reason="\ud800").to_json()).reason == "?"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fields": {"kind": 3}}', '{"fields": {}, "own": 1}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Prediction.from_json(text)
