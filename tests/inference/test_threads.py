"""Threads share an engine: answers stay the same, and one batch is read while another is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.example import Turn
from tests.forms import form_of
from tests.inference.likeness import alike, altered
from vlm_ft.answers.kinds import Choice, Flag, Text
from vlm_ft.conversation import Conversation
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request

FORM = form_of(passed=Flag(), kind=Choice(options=("scratch", "scrape", "dent")), note=Text(max_length=6))


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
        for _ in range(2):
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

    def decoding(self: FormDecoder, *arguments: Any, **options: Any) -> Any:
        answering.set()
        assert read.wait(30), "the second batch was not read while the first was answered"
        return decode(self, *arguments, **options)

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


def test_a_replaced_adapter_leaves_no_stale_answer(run_of: Callable[..., Path], drawings: Path, tmp_path: Path) -> None:
    """The adapters answer the same prompts with different weights, so neither weights nor prefixes may be mixed up."""
    first = run_of("fast_vlm") / "adapter"
    folders = [first, altered(first, tmp_path / "second")]
    photo = sorted((drawings / "JPEGImages").glob("*.png"))[0]
    request = [Request((photo,), adapter="trial")]
    alone = [Engine.open([folder]).predict(request) for folder in folders]
    assert not alike(*alone)
    engine, done = Engine.open([first]), threading.Event()

    def ask() -> list[bool]:
        known = []
        while not done.is_set():
            answer = engine.predict(request)
            known.append(any(alike(answer, expected) for expected in alone))
        return known

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for number in range(1, 5):
            engine.replace("trial", folders[number % 2])
            assert alike(engine.predict(request), alone[number % 2])
        done.set()
        found = [known for future in asking for known in future.result()]
    assert all(found)
    assert len(found) > 3
    assert len(engine._residents._slots) == 1  # the replaced adapters have left memory
