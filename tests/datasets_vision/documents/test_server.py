"""Questions from a server: a real local HTTP server with prepared answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datasets_vision.documents.build import write_messages
from datasets_vision.documents.server import Server
from tests.chat_server import Stub, serving
from vlm_ft.errors import DataError

GOOD = {"question": "When is the filter changed?", "answer": "The filter is changed every 30 days."}
MANUAL = "# Filter\n\nThe filter is changed every 30 days. Wear gloves.\n"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as stub:
        yield stub


def pairs(*found: object) -> str:
    return json.dumps({"pairs": found})


def built(stub: Stub, tmp_path, *replies: str | int | bytes, text: str = MANUAL, **options: Any):
    (tmp_path / "m.md").write_text(text)
    stub.replies = list(replies)
    out = tmp_path / "chat.jsonl"
    found = write_messages(tmp_path / "m.md", out, server=Server(stub.url, "some-model", pause=0.001, **options))
    return found, [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    "reply",
    [
        pairs(GOOD),
        f"Here you are:\n```json\n{pairs(GOOD)}\n```\nGood luck!",
        f"<think>{{not this}}</think>{pairs(GOOD)}",
    ],
)
def test_a_reply_becomes_rows_with_their_passage(stub, tmp_path, reply):
    found, rows = built(stub, tmp_path, reply, key="k")
    assert [turn["content"] for turn in rows[0]["messages"]] == [GOOD["question"], GOOD["answer"]]
    assert rows[0]["passage"] == "The filter is changed every 30 days. Wear gloves."
    assert (found.rows, found.set_aside, rows[0]["kind"]) == (1, [], "server")
    request, key = stub.asked[0]
    assert (request["model"], key) == ("some-model", "Bearer k")
    assert "Wear gloves." in request["messages"][0]["content"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("I cannot help.", "no JSON with pairs"),
        ('{"pairs": 3}', "not a non-empty list"),
        ('{"pairs": [{"question": "x"', "no JSON with pairs"),
        (pairs({"question": "When?"}), "without a question or an answer"),
        (pairs("When?"), "without a question or an answer"),
        (pairs({**GOOD, "answer": "The filter is changed every 90 days."}), "the number 90 is not in the passage"),
        (pairs({**GOOD, "answer": "Blue whales swim through northern oceans."}), "only 0% of the answer's words"),
        (pairs({**GOOD, "answer": "filter " * 200}), "characters, but the limit is"),
        (400, "the request was rejected"),
    ],
)
def test_unusable_pairs_are_set_aside_and_the_rest_kept(stub, tmp_path, bad, reason):
    text = MANUAL + "\n# Gloves\n\nThe filter is changed every 30 days, with gloves.\n"
    found, rows = built(stub, tmp_path, bad, pairs(GOOD), text=text)
    assert [row["messages"][1]["content"] for row in rows] == [GOOD["answer"]]
    assert len(found.set_aside) == 1
    assert reason in found.set_aside[0].reason
    assert found.set_aside[0].place == "m.md, Filter"


def test_a_busy_server_is_asked_again(stub, tmp_path):
    found, rows = built(stub, tmp_path, 503, b"<html>busy</html>", b'{"choices": []}', pairs(GOOD))
    assert (len(rows), len(stub.asked), found.set_aside) == (1, 4, [])
    with pytest.raises(DataError, match="not a chat completion"):
        built(stub, tmp_path, b"<html>busy</html>")


def test_an_interrupted_run_does_not_ask_about_a_passage_twice(stub, tmp_path):
    kept = tmp_path / "chat.replies"
    built(stub, tmp_path, pairs(GOOD), kept=kept)
    kept.write_text(kept.read_text() + '{"request": "cut off')
    _, rows = built(stub, tmp_path, 500, kept=kept)
    assert (len(rows), len(stub.asked)) == (1, 1)
    assert "cut off" not in kept.read_text()  # the next reply would be appended to it and lost
    kept.write_text("odd\n")
    with pytest.raises(DataError, match=r"chat\.replies:1: not a stored reply"):
        built(stub, tmp_path, 500, kept=kept)


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_reported_without_the_key(stub, tmp_path, status):
    with pytest.raises(DataError, match="check the address, the model 'some-model' and the key") as caught:
        built(stub, tmp_path, status, key="very-secret")
    assert "very-secret" not in str(caught.value)


def test_an_unreachable_address_is_reported(tmp_path):
    (tmp_path / "m.md").write_text(MANUAL)
    with pytest.raises(DataError, match="connection refused; start it"):
        write_messages(tmp_path / "m.md", tmp_path / "c.jsonl", server=Server("http://127.0.0.1:9", "m"))


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "ftp://x/v1", ""])
def test_an_address_must_be_http(url):
    with pytest.raises(DataError, match="http"):
        Server(url, "m")
