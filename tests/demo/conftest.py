"""Cards of three adapters, and a predictor that knows their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from PIL import Image
from vlm_ft.demo.answer_view import answer_view, head_view
from vlm_ft.demo.answered import Answered
from vlm_ft.demo.app import build_app, mount
from vlm_ft.demo.asking import Given, ask

from tests import cards
from tests.forms import whole_form
from tests.service.servers import running
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Task
from vlm_ft.inference.request import Attributed, Predictor, Request
from vlm_ft.tasks import TASKS

HOSTILE = "<img src=x onerror=window.pwned=1>${window.pwned=1}{{constructor}}'\"&"
FIGURES = {f"passed.{name}": {"value": 0.943, "low": 0.9, "high": 0.98} for name in ("accuracy", "macro_f1")}


def card_of(task: Task, name: str = "trial", kind: Literal["vision", "text"] = "vision") -> Card:
    """A card for the task's whole form; every open choice has the sample's names and a hostile one."""
    return cards.card_of(whole_form(task, HOSTILE), name, kind, metrics=FIGURES)


class Known:
    """A `Predictor` that gives every adapter's sample answer, also as the base, and records its requests.

    `answers` replaces those of some adapters.
    """

    def __init__(self) -> None:
        self.cards = {
            "plates": card_of(TASKS["product_defects"], "plates"),
            "contracts": card_of(TASKS["legal_documents"], "contracts", kind="text"),
            "hostile": card_of(TASKS["product_defects"], "hostile"),
        }
        self.asked: list[Request] = []
        self.answers: dict[str, Prediction] = {}

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        self.asked += requests
        answers = [self._answer(request.like or request.adapter) for request in requests]
        return [Attributed.to(self.cards.get(r.adapter), answer) for r, answer in zip(requests, answers, strict=True)]

    def _answer(self, adapter: str) -> Prediction:
        known = self.answers.get(adapter) or cards.sample_prediction(TASKS[self.cards[adapter].form.task])
        if adapter != "hostile":
            return known
        found = [{"kind": HOSTILE, "severity": "minor", "box": [0, 0, 90, 90]}]
        fields = {"passed": FieldValue(False), "kind": FieldValue(HOSTILE), "findings": FieldValue(found)}
        return Prediction(fields=fields, decision="ask a person", reason=HOSTILE)


def assess(
    known: Predictor, adapter: str, photos: Sequence[str] | None, text: str | None
) -> tuple[list[Image.Image], str, Answered | None]:
    """(the photos with their boxes, the answer as HTML, the answer) of one case; or a message instead."""
    asked = ask(known, adapter, Given(photos or (), text or ""))
    if not asked.answers:
        return [], asked.message, None
    (answered,) = asked.answers
    html = head_view(answered.card, answered.prediction)
    html += answer_view(answered.card, answered.prediction, len(asked.photos))
    return answered.drawn(asked.photos), html, answered


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "plate.png"
    Image.new("RGB", (320, 240), "grey").save(path)
    return path


@pytest.fixture
def address(known: Known, photo: Path) -> Iterator[str]:
    """A running app's address."""
    blocks = build_app(known, {"plates": [photo], "contracts": ["Audits are allowed once a year."]})
    with running(mount(FastAPI(), blocks)) as (host, port):
        yield f"http://{host}:{port}/app/"
