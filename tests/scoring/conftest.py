"""A predictor that answers with what it is given, and folders of small images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.cards import card_of, sample_prediction
from tests.forms import whole_form
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.inference.request import Request
from vlm_ft.tasks import TASKS


class Canned:
    """A `Predictor` of one adapter; it records the sizes of its batches."""

    def __init__(self, card: Card, answer: Callable[[Request], Prediction]) -> None:
        self.cards: Mapping[str, Card] = {card.name: card}
        self.batches: list[int] = []
        self._answer = answer

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        self.batches.append(len(requests))
        return [self._answer(request) for request in requests]


@pytest.fixture
def defects() -> Canned:
    task = TASKS["product_defects"]
    return Canned(card_of(whole_form(task)), lambda request: sample_prediction(task))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images in two folders, each with its own content."""
    return drawn(tmp_path / "photos", 10)


def drawn(folder: Path, count: int) -> Path:
    """A folder of this many small images, no two alike."""
    for index in range(count):
        path = folder / ("even" if index % 2 == 0 else "odd") / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (index, 0, 0)).save(path)
    return folder
