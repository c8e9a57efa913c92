"""The chat: replies grow while they are written, and earlier turns are part of the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from vlm_ft.demo.chat_tab import MAX_TURNS, talk

from datasets_vision.example import Turn
from tests.demo.conftest import card_of
from vlm_ft.errors import BusyError
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.tasks import TASKS


@pytest.fixture
def talkative(known: Any) -> Any:
    """A chatbot that writes its reply word by word."""
    known.cards = {"desk": card_of(TASKS["customer_chatbot"], "desk", kind="text")}
    answer = known.predict

    def predict(requests: Sequence[Request]) -> list[Attributed]:
        (found,) = answer(requests)
        words = found.values["reply"].split(" ")
        for count in range(1, len(words)):
            requests[0].on_text({"intent": "track_order", "reply": " ".join(words[:count])})
        return [found]

    known.predict = predict
    return known


def test_a_reply_grows(talkative: Any) -> None:
    states = list(talk(talkative, "desk", " Where is it? ", [], []))
    said = [messages[-1]["content"] for *_, messages in states]
    reply = TASKS["customer_chatbot"].sample.model_dump()["reply"]
    assert len(said) > 5
    assert said[0] == "…"
    assert all(reply.startswith(text) for text in said[1:-1])
    assert said[-1].startswith(f"{reply}\n\nIntent: track order")
    assert [turn.text for turn in states[-1][1]] == ["Where is it?", reply]


def test_earlier_turns_are_part_of_the_question(talkative: Any) -> None:
    *_, (_, turns, messages) = talk(talkative, "desk", "Hello", [], [])
    *_, (_, turns, messages) = talk(talkative, "desk", "And now?", turns, messages, by="ann")
    request = talkative.asked[-1]
    assert [turn.role for turn in request.turns] == ["user", "assistant", "user"]
    assert (request.by, bool(request.case)) == ("ann", True)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2


def test_the_decision_is_stated(talkative: Any) -> None:
    answer = talkative.predict
    doubt = {"decision": "ask a person", "reason": "unlike the training data"}
    talkative.predict = lambda requests: [replace(found, **doubt) for found in answer(requests)]
    *_, (*_, messages) = talk(talkative, "desk", "Hello", [], [])
    assert messages[-1]["content"].endswith("Ask a person: unlike the training data.")


@pytest.mark.parametrize("error", [BusyError("engine", "64 requests in progress", "retry later"), RuntimeError("CUDA")])
def test_an_error_is_a_message_and_the_text_stays(talkative: Any, error: Exception) -> None:
    def fail(requests: Any) -> Any:
        raise error

    talkative.predict = fail
    *_, (box, turns, messages) = talk(talkative, "desk", "Hello", [], [])
    assert (box, turns) == ("Hello", [])
    assert messages[-1]["content"].startswith("No answer: ")
    assert "CUDA" not in messages[-1]["content"]


@pytest.mark.parametrize(("said", "turns"), [("", 0), ("a" * 20_001, 0), ("Hello", MAX_TURNS)])
def test_a_question_that_cannot_be_answered_is_not_sent(talkative: Any, said: str, turns: int) -> None:
    ((_, kept, messages),) = talk(talkative, "desk", said, [Turn("user", "a")] * turns, [])
    assert (len(kept), messages, talkative.asked) == (turns, [], [])


def test_an_adapter_that_is_gone_is_named_as_the_reason(talkative: Any) -> None:
    with pytest.warns(UserWarning, match="no longer loaded; reload this page"):
        list(talk(talkative, "gone", "hello", [], []))
