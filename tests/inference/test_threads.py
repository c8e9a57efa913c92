"""Threads share an engine: answers stay the same, and one batch is read while another is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.example import Turn
from tests.inference.likeness import alike
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag, Text
from vlm_ft.conversation import Conversation
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request

FORM = Form(
    task="made",
    title="Made",
    instruction="Inspect it.",
    fields=(
        FieldSpec(name="passed", kind=Flag()),
        FieldSpec(name="kind", kind=Choice(options=("scratch", "scrape", "dent"))),
        FieldSpec(name="note", kind=Text(max_length=6)),
    ),
)


@pytest.fixture(scope="module")
def engine(bare: Callable[[str], Engine]) -> Engine:
    return bare("fast_vlm")


def test_answers_do_not_depend_on_other_threads(engine: Engine, drawings: Path) -> None:
    photos = sorted((drawings / "JPEGImages").glob("*.png"))[:4]
    asked = [
        [
            Request(images=(photo,), turns=(Turn("user", "word " * number),), form=FORM),
            Request((), (Turn("user", "?"),), form=FORM),
        ]
        for number, photo in enumerate(photos)
    ]
    alone = [engine.predict(requests) for requests in asked]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            together = list(pool.map(engine.predict, asked))
            assert all(alike(*pair) for pair in zip(together, alone, strict=True))


def test_a_batch_is_read_while_another_is_answered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    answering, read = threading.Event(), threading.Event()
    encode, decode = Conversation.encode, FormDecoder.decode

    def encoding(self: Conversation, rows: Any, **options: Any) -> Any:
        batch = encode(self, rows, **options)
        if answering.is_set():
            read.set()
        return batch

    def decoding(self: FormDecoder, *arguments: Any) -> Any:
        answering.set()
        assert read.wait(30), "the second batch was not read while the first was answered"
        return decode(self, *arguments)

    request = [Request(turns=(Turn("user", "?"),), form=FORM)]
    expected = engine.predict(request)
    monkeypatch.setattr(Conversation, "encode", encoding)
    monkeypatch.setattr(FormDecoder, "decode", decoding)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.predict, request)
        assert answering.wait(30)
        second = pool.submit(engine.predict, request)
        assert alike(first.result(), expected)
        assert alike(second.result(), expected)
