"""With real weights and a real vocabulary, probabilities of options with common beginnings match enumeration."""

from __future__ import annotations

from math import exp

import pytest

from datasets_vision.example import Turn
from tests.decoding.oracle import answer_logprob, form_of
from vlm_ft.answers.kinds import Choice
from vlm_ft.bases.load import Base
from vlm_ft.conversation import Row
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request

INTENTS = (
    "cancel_order",
    "cancel_orders",
    "cancel_subscription",
    "change_address",
    "change_order",
    "check_refund",
    "check_refund_policy",
    "track_refund",
)


def test_probabilities_of_options_with_common_beginnings_match_enumeration(fetched: Base) -> None:
    form = form_of(intent=Choice(options=INTENTS))
    turns = (Turn("user", "I no longer want what I ordered yesterday."),)
    (answer,) = Engine(fetched).predict([Request(turns=turns, form=form)])
    found = answer.fields["intent"].distribution
    assert found is not None
    assert sum(found.values()) == pytest.approx(1)
    exact = {}
    for name in INTENTS:
        exact[name] = exp(sum(answer_logprob(fetched, Row(form, turns, (), form.target({"intent": name})))))
    assert sum(exact.values()) == pytest.approx(1, abs=1e-4)
    assert answer.values["intent"] == max(exact, key=lambda name: exact[name])
    for name in INTENTS:
        assert found[name] == pytest.approx(exact[name], abs=2e-3)
