"""A server runs the model: it gets the same prompt and schema, and its errors become rows with a reason."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from math import log
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.endpoint import Endpoint
from datasets_vision.example import Turn
from tests.cards import card_of
from tests.chat_server import Stub, serving
from tests.decoding.oracle import form_of
from vlm_ft.answers.box_format import GRID, STANDARD, BoxFormat
from vlm_ft.answers.confidence import Bound, Confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import DataError
from vlm_ft.inference.remote import SERVER, RemoteEngine
from vlm_ft.inference.request import Request
from vlm_ft.recipe import Tiling

KIND = FieldSpec(name="kind", kind=Choice(options=("dent", "scratch")))
FINDINGS = form_of(findings=Items(fields=(KIND, FieldSpec(name="box", kind=BoxKind())), max_items=3))
FORM = form_of(passed=Flag(), kind=Choice(options=("dent", "none")))
GOOD = json.dumps({"passed": False, "kind": "dent"})
PHOTO = Request(images=(Image.new("RGB", (20, 10), "red"),), turns=(Turn("user", "The left door?"),), adapter="doors")


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as stub:
        yield stub


def engine(stub: Stub, *replies: str | int | bytes | None, form: Form = FORM, **settings: object) -> RemoteEngine:
    stub.replies = list(replies)
    return RemoteEngine(card_of(form, "doors", **settings), Endpoint(stub.url, "doors", timeout=1.0, pause=0.001))


def test_the_prompt_the_schema_and_the_photo_are_sent(stub: Stub) -> None:
    (answer,) = engine(stub, GOOD).predict([PHOTO])
    assert answer.values == {"passed": False, "kind": "dent"}
    assert answer.decision == "answer"
    request, _ = stub.asked[0]
    assert request["model"] == "doors"
    assert request["response_format"]["json_schema"]["schema"] == FORM.schema_of_answer
    system, user = request["messages"]
    assert system == {"role": "system", "content": FORM.prompt}
    photo, text = user["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(photo["image_url"]["url"].split(",")[1])))
    assert sent.size == (20, 10)
    assert text == {"type": "text", "text": "The left door?"}


def sent_photos(stub: Stub) -> list[Image.Image]:
    urls = [part["image_url"]["url"] for request, _ in stub.asked for part in request["messages"][1]["content"][:1]]
    return [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]


@pytest.mark.parametrize(
    ("boxes", "written", "stored"),
    [
        (STANDARD, [100, 200, 500, 1000], [100, 200, 500, 1000]),
        (GRID, [1, 2, 5, 9], [111, 222, 556, 1000]),
        (BoxFormat(scale=None), [2, 1, 10, 5], [100, 100, 500, 500]),
        (
            BoxFormat(scale=1023, top_first=True, locations=True),
            "<loc0102><loc0205><loc0512><loc1023>",
            [200, 100, 1000, 500],
        ),
    ],
    ids=["standard", "grid", "pixels", "tokens"],
)
def test_boxes_are_read_in_the_base_s_convention(
    boxes: BoxFormat, written: list[int] | str, stored: list[int], stub: Stub
) -> None:
    reply = json.dumps({"findings": [{"kind": "dent", "box": written}]})
    (answer,) = engine(stub, reply, form=FINDINGS.with_boxes(boxes)).predict([PHOTO])
    assert answer.values == {"findings": [{"kind": "dent", "box": stored}]}


@pytest.mark.parametrize("box", [[1, 2, 3], "somewhere", None, [[1], 2, 3, 4]], ids=str)
def test_what_is_not_a_box_is_reported(box: object, stub: Stub) -> None:
    (answer,) = engine(stub, json.dumps({"findings": [{"kind": "dent", "box": box}]}), form=FINDINGS).predict([PHOTO])
    assert "does not fit" in str(answer.error)


def test_photos_are_sent_as_the_adapter_was_trained(stub: Stub) -> None:
    engine(stub, GOOD, pixels=(1, 50)).predict([PHOTO])
    assert [photo.size for photo in sent_photos(stub)] == [(10, 5)]


def test_large_photos_are_sent_in_tiles(stub: Stub) -> None:
    reply = json.dumps({"findings": [{"kind": "dent", "box": [0, 0, 500, 500]}]})
    large = replace(PHOTO, images=(Image.new("RGB", (40, 20), "red"),))
    (answer,) = engine(stub, reply, form=FINDINGS, tiling=Tiling(side=24, overlap=8)).predict([large])
    assert [photo.size for photo in sent_photos(stub)] == [(24, 20)] * 2
    assert [item["box"] for item in answer.values["findings"]] == [[0, 0, 300, 500], [400, 0, 700, 500]]


@pytest.mark.parametrize("fault", [429, 503, b"<html>busy</html>", None], ids=str)
def test_a_request_is_repeated_after_a_temporary_fault(stub: Stub, fault: int | bytes | None) -> None:
    (answer,) = engine(stub, fault, GOOD).predict([PHOTO])
    assert answer.error is None
    assert len(stub.asked) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I see a door.", "not JSON"),
        ('{"passed": false, "kind": "rust"}', "does not fit"),
        (500, "no usable reply after 4 tries"),
        (400, "the request was rejected"),
    ],
)
def test_an_unusable_reply_is_an_error_with_its_reason(stub: Stub, reply: str | int, reason: str) -> None:
    answers = engine(stub, reply).predict([PHOTO, PHOTO])
    for answer in answers:
        assert reason in str(answer.error)
        assert answer.decision == "ask a person"


def test_a_photo_that_cannot_be_opened_fails_alone(stub: Stub) -> None:
    missing = replace(PHOTO, images=(Path("server") / "door.jpg",))  # named as an error of the server begins
    broken, answered = engine(stub, GOOD).predict([missing, PHOTO])
    assert "door.jpg" in str(broken.error)
    assert answered.error is None


def test_an_unreachable_server_stops_the_run() -> None:
    with pytest.raises(DataError, match="connection refused; start it"):
        RemoteEngine(card_of(FORM, "doors"), Endpoint("http://127.0.0.1:9/v1", "doors")).predict([PHOTO])


def test_a_threshold_of_the_form_sends_answers_to_a_person(stub: Stub) -> None:
    (answer,) = engine(stub, GOOD, form=FORM.with_thresholds({"passed": 0.9})).predict([PHOTO])
    assert (answer.values["passed"], answer.decision) == (False, "ask a person")


def test_answers_keep_their_order_and_a_threshold_sends_them_to_a_person(stub: Stub) -> None:
    bound = Bound(risk=0.05, level=0.9, threshold=0.5, count=100, needed=45)
    remote = engine(stub, GOOD, confidence=Confidence(temperatures={}, bound=bound))
    answers = remote.predict([PHOTO] * 40)
    assert len(answers) == len(stub.asked) == 40
    assert {answer.decision for answer in answers} == {"ask a person"}


def test_a_server_that_hangs_is_given_up(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(stub, "next", released.wait)
    patient = RemoteEngine(card_of(FORM, "doors"), Endpoint(stub.url, "doors", timeout=0.05, pause=0.001))
    (answer,) = patient.predict([PHOTO])
    released.set()
    assert answer.error == "server: no usable reply after 4 tries (timed out)"
    assert answer.decision == "ask a person"


END = "<|end|>"  # a token that some servers report, but no part of the text
Places = list[tuple[str, dict[str, float]]]
"""The tokens of a reply, each with the shares of its alternatives (none: it was certain)."""


def logprobs_of(places: Places) -> dict[str, object]:
    """As vLLM reports them."""

    def entry(token: str, share: float) -> dict[str, object]:
        return {"token": token, "logprob": log(share), "bytes": list(token.encode())}

    content = []
    for token, given in places:
        shares = given or {token: 1.0}
        top = [entry(other, share) for other, share in shares.items()]
        content.append({**entry(token, shares[token]), "top_logprobs": top})
    return {"content": content}


def told(stub: Stub, form: Form, places: Places, **settings: object) -> Prediction:
    """The answer to a reply with these tokens."""
    stub.logprobs = logprobs_of(places)
    (answer,) = engine(stub, "".join(token for token, _ in places if token != END), form=form, **settings).predict(
        [PHOTO]
    )
    assert answer.error is None
    return answer


def test_alternatives_are_renormalised_over_the_options(stub: Stub) -> None:
    places: Places = [
        ('{"passed":', {}),
        ("false", {"false": 0.6, "true": 0.2, "maybe": 0.2}),  # "maybe" is illegal
        (', "kind": "', {}),
        ("d", {"d": 0.4, "n": 0.2, "de": 0.1, "The": 0.3}),  # "d" and "de" both begin "dent"
        ('ent"}', {}),
        (END, {}),
    ]
    answer = told(stub, FORM, places)
    assert answer.fields["passed"].distribution == pytest.approx({"true": 0.25, "false": 0.75})
    assert answer.fields["kind"].distribution == pytest.approx({"dent": 5 / 7, "none": 2 / 7})
    assert answer.probabilities == SERVER
    assert Prediction.from_json(answer.to_json()) == answer
    request, _ = stub.asked[0]
    assert (request["logprobs"], request["top_logprobs"]) == (True, 20)


def test_options_that_part_late_are_followed_to_where_they_part(stub: Stub) -> None:
    form = form_of(kind=Choice(options=("scratch", "scrape", "dent")), count=Integer(minimum=0, maximum=12))
    places: Places = [
        ('{"kind":"scr', {'{"kind":"scr': 0.55, '{"kind":"dent': 0.45}),
        ('atch",', {'atch",': 0.6, 'ape",': 0.4}),
        ('"count":', {}),
        ("1", {"1": 0.7, **{str(number): 0.3 / 9 for number in (0, *range(2, 10))}}),
        ("}", {"}": 0.5, "2": 0.5 - 2e-4, "0": 1e-4, "1": 1e-4}),
    ]
    answer = told(stub, form, places)
    assert answer.fields["kind"].distribution == pytest.approx({"scratch": 0.33, "scrape": 0.22, "dent": 0.45})
    count = answer.fields["count"].distribution
    assert count is not None
    assert sum(count.values()) == pytest.approx(1)
    assert (count["1"], count["12"], count["2"]) == pytest.approx((0.35, 0.35, 0.3 / 9), abs=1e-3)


@pytest.mark.parametrize(
    ("shares", "dent"),
    [
        ({"d": 0.7, "x": 0.1}, None),  # "none" may have up to 0.2
        ({"d": 0.9995}, 1.0),
        ({"d": 0.7, "n": 0.1, "x": 0.1}, 7 / 8),  # both are known, whatever is hidden
        ({"x": 1.0, "d": 1e-9}, None),
    ],
    ids=["not covered", "nearly certain", "both covered", "wanted something else"],
)
def test_options_missing_from_the_alternatives_get_no_wrong_probability(
    stub: Stub, shares: dict[str, float], dent: float | None
) -> None:
    answer = told(stub, FORM.narrow(["kind"]), [('{"kind":"', {}), ("d", shares), ('ent"}', {})])
    assert answer.fields["kind"].probability == (dent if dent is None else pytest.approx(dent))
    assert answer.probabilities == (SERVER if dent else None)


def test_alternatives_that_do_not_tell_options_apart_give_no_probability(stub: Stub) -> None:
    """ "s" may become either of two options that the reply's own tokens do not follow."""
    form = form_of(kind=Choice(options=("scratch", "scrape", "dent")))
    answer = told(stub, form, [('{"kind":"', {}), ("d", {"d": 0.6, "s": 0.4}), ('ent"}', {})])
    assert answer.fields["kind"].distribution is None


def test_tokens_that_do_not_spell_the_reply_are_ignored(stub: Stub) -> None:
    stub.logprobs = logprobs_of([("something", {}), ("else", {})])
    (answer,) = engine(stub, GOOD).predict([PHOTO])
    assert answer.values == {"passed": False, "kind": "dent"}
    assert {entry.distribution for entry in answer.fields.values()} == {None}


def test_a_server_without_probabilities_is_asked_without_them(stub: Stub) -> None:
    stub.logprobs = None
    remote = engine(stub, GOOD)
    for _ in range(2):
        (answer,) = remote.predict([PHOTO])
        assert (answer.error, answer.probabilities) == (None, None)
    assert ["logprobs" in request for request, _ in stub.asked] == [True, False, False]


def test_the_local_calibration_is_not_applied_to_a_server_s_probabilities(stub: Stub) -> None:
    bound = Bound(risk=0.05, level=0.9, threshold=0.5, count=100, needed=45)
    places: Places = [('{"kind":"', {}), ("d", {"d": 0.9, "n": 0.1}), ('ent"}', {})]
    confidence = Confidence(temperatures={"kind": 3.0}, bound=bound)
    answer = told(stub, FORM.narrow(["kind"]), places, confidence=confidence)
    assert answer.fields["kind"].probability == pytest.approx(0.9)
    assert answer.decision == "ask a person"
