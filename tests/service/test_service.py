"""The service gives the engine's answers, and says what is wrong with a request."""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file
from starlette.exceptions import HTTPException

from tests.forms import whole_form
from tests.service.servers import HERE, photo
from vlm_ft.adapters import TENSORS
from vlm_ft.answers.box_format import GRID
from vlm_ft.answers.prediction import FieldValue, Item
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Attributed, CaseId, Request
from vlm_ft.service.app import build_service
from vlm_ft.service.chat import completion, events
from vlm_ft.service.intake import ChatRequest
from vlm_ft.tasks import TASKS

CASE = CaseId("20260102-030405-abcdef", "2026-01-02T03:04:05+00:00")
ASKED = ChatRequest.model_validate({"model": "desk", "messages": [{"role": "user", "content": "Hello"}]})


def test_an_assessment_is_the_engines_answer(client: TestClient, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo())
    (expected,) = engine.predict([Request((tmp_path / "photo.jpg",), adapter="trial")])
    found = client.post("/v1/assess", data={"adapter": "trial"}, files=[("photos", ("me.jpg", photo()))])
    assert found.status_code == 200
    answer = found.json()
    assert {name: field["value"] for name, field in answer["fields"].items()} == expected.values
    assert answer["fields"]["kind"]["distribution"] == pytest.approx(expected.fields["kind"].distribution, abs=1e-6)
    assert (answer["adapter"], answer["decision"]) == ("trial", expected.decision)


def test_openai_clients_are_served(address: str, engine: Engine, tmp_path: Path) -> None:
    theirs = openai.OpenAI(base_url=address, api_key="none")
    assert [model.id for model in theirs.models.list()] == ["trial"]
    (tmp_path / "photo.jpg").write_bytes(photo())
    (expected,) = engine.predict([Request((tmp_path / "photo.jpg",), adapter="trial")])
    url = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()
    messages: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    whole = theirs.chat.completions.create(model="trial", messages=messages)
    assert json.loads(whole.choices[0].message.content or "") == expected.values
    chunks = theirs.chat.completions.create(model="trial", messages=messages, stream=True)
    *chunks, last = chunks
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(streamed) == expected.values
    for found in (whole, last):
        assert found.model_extra["assessment"]["decision"] == expected.decision
    lenient: Any = {"temperature": 0, "n": 1, "seed": 7, "tools": None}
    again = theirs.chat.completions.create(model="trial", messages=messages, **lenient)
    assert again.choices[0].message.content == whole.choices[0].message.content
    with pytest.raises(openai.NotFoundError, match="did you mean 'trial'"):
        theirs.chat.completions.create(model="trail", messages=messages)


def test_openai_clients_get_the_probabilities_of_closed_values(address: str, engine: Engine, tmp_path: Path) -> None:
    theirs = openai.OpenAI(base_url=address, api_key="none")
    (tmp_path / "photo.jpg").write_bytes(photo())
    (expected,) = engine.predict([Request((tmp_path / "photo.jpg",), adapter="trial")])
    url = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()
    asked: Any = {
        "model": "trial",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}],
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "product_defects"}},
    }
    whole = theirs.chat.completions.create(**asked)
    *_, last = theirs.chat.completions.create(**asked, stream=True)
    for found in (whole.choices[0].logprobs, last.choices[0].logprobs):
        assert found is not None
        assert found.content is not None
        assert [json.loads(entry.token) for entry in found.content] == list(expected.values.values())
        for entry, field in zip(found.content, expected.fields.values(), strict=True):
            assert math.exp(entry.logprob) == pytest.approx(field.probability, abs=1e-6)
            assert bytes(entry.bytes or ()).decode() == entry.token
            shown = {json.loads(top.token): math.exp(top.logprob) for top in entry.top_logprobs}
            assert field.distribution is not None
            assert list(shown.values()) == pytest.approx(sorted(field.distribution.values())[::-1][:2], abs=1e-6)
    assert (
        theirs.chat.completions.create(**{**asked, "logprobs": None, "top_logprobs": None}).choices[0].logprobs is None
    )


def test_an_answer_says_what_to_cite_it_by_as_the_log_does(client: TestClient, engine: Engine, tmp_path: Path) -> None:
    files = {"photos": ("a.jpg", photo())}
    url = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "trial", "messages": [{"role": "user", "content": content}]}
    alone = client.post("/v1/assess", data={"adapter": "trial"}, files=files).json()
    whole = client.post("/v1/chat/completions", json=body).json()
    chunks = client.post("/v1/chat/completions", json={**body, "stream": True}).text.split("\n\n")
    last = json.loads(chunks[-3].removeprefix("data: "))
    answers = [alone, whole["assessment"], last["assessment"]]
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    card = engine.cards["trial"]
    for answer, line in zip(answers, lines, strict=True):
        cited = {"case", "adapter", "version", "card", "calibration", "form", "decoder", "precision"}
        assert {name: answer[name] for name in cited} == {name: line[name] for name in cited}
        assert answer["card"] == card.fingerprint
        assert answer["time"][:16] == line["time"][:16]
    assert len({answer["case"] for answer in answers}) == 3
    assert [whole["id"], last["id"]] == [f"chatcmpl-{answer['case']}" for answer in answers[1:]]


def test_closed_values_in_lists_have_probabilities_and_texts_have_none() -> None:
    kind = FieldValue("dent", {"dent": 1.0, "crack": 0.0})
    listed = FieldValue([{"kind": "dent"}], {"0": 0.25, "1 or more": 0.75}, items=(Item(0.75, {"kind": kind}),))
    answer = Attributed(
        {"sound": FieldValue(False, {"true": 0.5, "false": 0.5}), "findings": listed, "note": FieldValue("")}
    )
    asked = ASKED.model_copy(update={"logprobs": True, "top_logprobs": 2})
    found = completion(asked, CASE, answer)["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in found] == ["false", '"dent"']
    assert found[0]["logprob"] == pytest.approx(math.log(0.5))
    assert [top["logprob"] for top in found[1]["top_logprobs"]] == [0.0, -9999.0]


def streamed_events(*found: Any) -> list[Any]:
    lines = "".join(events(ASKED, CASE, iter(found))).split("\n\n")
    return [line.removeprefix("data: ") for line in lines if line]


def test_the_pieces_of_a_stream_add_up_to_the_content() -> None:
    reply = 'It said "no", in Köln\n\\'
    answer = Attributed({"known": FieldValue(True), "reply": FieldValue(reply), "note": FieldValue("")})
    states = [{"known": True, "reply": reply[:length]} for length in range(len(reply) + 1)]
    *chunks, last, done = streamed_events(*states, {**states[-1], "note": ""}, answer)
    pieces = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert len(pieces) > len(reply)
    assert json.loads("".join(piece["content"] for piece in pieces)) == answer.values
    assert ["role" in piece for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert json.loads(last)["assessment"]["decision"] == "answer"
    assert done == "[DONE]"


def test_an_answer_that_fails_is_refused_or_cut_off() -> None:
    failed = Attributed.failed("the answer does not fit")
    with pytest.raises(HTTPException, match="does not fit"):
        streamed_events(failed)
    *_, last = streamed_events({"reply": "It"}, failed)
    assert json.loads(last)["error"]["message"] == "the answer does not fit"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.com/a.jpg", "is not a data URI"),
        ("file:///etc/passwd", "is not a data URI"),
        ("data:image/png;base64,%%%", "is not base64"),
        ("data:image/png;base64,AAAA", "not a readable image"),
    ],
)
def test_pictures_must_come_with_the_request(client: TestClient, url: str, says: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "trial", "messages": [{"role": "user", "content": content}]}
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code in (400, 422)
    assert says in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"n": 2}, "body.n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "mine", "schema": {}}}}, "schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "legal_documents"}}}, "product_defects"),
        ({"top_logprobs": 3}, "set logprobs, too"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{}]}, "tools"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "the adapter has its own instruction"),
        ({"messages": [0] * 100_000}, "messages"),
        ({"model": "x" * 1000}, "model"),
    ],
)
def test_parameters_that_would_be_ignored_are_refused(client: TestClient, change: dict[str, Any], says: str) -> None:
    body = {"model": "trial", "messages": [{"role": "user", "content": "Hello"}], **change}
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code == 400
    assert says in found.json()["error"]["message"]
    assert len(found.content) < 1500


def test_a_misspelt_field_is_refused(client: TestClient) -> None:
    found = client.post("/v1/assess", data={"adapter": "trial"}, files={"photo": ("a.jpg", photo())})
    assert found.status_code == 400
    assert "photo" in found.json()["error"]["message"]


def test_a_text_for_a_photo_adapter_is_refused(client: TestClient) -> None:
    asked = {"adapter": "trial", "text": "Is this fine?"}
    found = client.post("/v1/assess", data=asked, files={"photos": ("a.jpg", photo())})
    assert found.status_code == 400
    assert "trained on photos only" in found.json()["error"]["message"]


def test_two_adapters_with_the_same_name_stay_apart(run_of: Callable[..., Path], tmp_path: Path) -> None:
    first = run_of("fast_vlm") / "adapter"
    other = tmp_path / "other"
    shutil.copytree(first, other)
    tensors = load_file(other / TENSORS)
    save_file({name: -3 * tensor for name, tensor in tensors.items()}, other / TENSORS)
    engine = Engine.open([first, other])
    assert list(engine.cards) == ["trial", "trial-2"]
    client = TestClient(build_service(engine), base_url=HERE)
    found = [
        client.post("/v1/assess", data={"adapter": name}, files={"photos": ("a.jpg", photo())}).json()
        for name in engine.cards
    ]
    assert [answer["adapter"] for answer in found] == ["trial", "trial-2"]
    shares = [answer["fields"]["kind"]["distribution"] for answer in found]
    assert shares[0] != pytest.approx(shares[1], abs=1e-4)


def test_the_schema_has_boxes_in_the_same_scale_as_answers(engine: Engine) -> None:
    form = whole_form(TASKS["product_defects"]).with_boxes(GRID)
    served = SimpleNamespace(cards={"trial": engine.cards["trial"].model_copy(update={"form": form})})
    (entry,) = TestClient(build_service(served), base_url=HERE).get("/v1/adapters").json()
    box = entry["schema"]["properties"]["findings"]["items"]["properties"]["box"]
    assert box["items"]["maximum"] == 1000


def test_the_service_describes_what_it_serves(client: TestClient) -> None:
    (entry,) = client.get("/v1/adapters").json()
    assert (entry["name"], entry["task"]) == ("trial", "product_defects")
    assert set(entry["schema"]["properties"]) == {"passed", "kind"}
    client.post("/v1/assess", data={"adapter": "trial"}, files=[("photos", ("a.jpg", photo()))])
    assert "vlm_ft_seconds_count 1.0" in client.get("/metrics").text
    assert client.get("/v1/none").json()["error"]["type"] == "not_found"
    assert client.get("/openapi.json").json()["paths"]["/v1/assess"]
