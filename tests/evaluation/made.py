"""Cases with pictures, and a predictor with prepared answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets_vision.example import Example, Turn
from tests.cards import card_of
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.observation import observed
from vlm_ft.answers.prediction import Prediction
from vlm_ft.evaluation.evaluate import Case
from vlm_ft.inference.request import Request
from vlm_ft.tasks import TASKS

KINDS = {"none": (90, 90, 90), "pit": (40, 40, 200), "scratch": (200, 40, 40)}


class Scripted:
    """A predictor that answers with `answer_to`, both as the bare base and as the adapter "made"."""

    def __init__(self, form: Form, answer_to: Callable[[Request], Prediction]) -> None:
        self.requests: list[Request] = []
        self._card, self._answer_to = card_of(form, "made"), answer_to

    @property
    def cards(self) -> Mapping[str, Card]:
        return {"made": self._card}

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        self.requests += requests
        return [self._answer_to(request) for request in requests]


def defect_cases(folder: Path, count: int = 12) -> list[Case]:
    """Pictures of one defect or none, with its colour set by its kind and its place by its number."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(0)
    return [_defect_case(folder / f"part-{index}.png", index, dice) for index in range(count)]


def _defect_case(path: Path, index: int, dice: np.random.Generator) -> Case:
    kind = list(KINDS)[index % 3]
    box = [100 + 40 * (index % 10), 200, 500 + 40 * (index % 10), 600]
    pixels = dice.normal(150, 12, (96, 128, 3))
    left, top, right, bottom = (round(side * scale / 1000) for side, scale in zip(box, (128, 96) * 2, strict=True))
    pixels[top:bottom, left:right] = KINDS[kind]
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    findings = [] if kind == "none" else [{"kind": kind, "severity": "minor", "box": box}]
    values = {"passed": kind == "none", "kind": kind, "findings": findings}
    return Case(Example(id=path.stem, images=(path,), group=f"board {index // 2}"), values)


def clause_cases() -> list[Case]:
    return [
        Case(
            Example(id=f"clause {index}", turns=(Turn("user", f"Passage {index} of the contract."),)),
            {"clause_type": ("audit", "notice")[index % 2], "risk": "low", "summary": f"It says {index} things."},
        )
        for index in range(6)
    ]


def form_of(task: str, cases: Sequence[Case]) -> Form:
    return observed(TASKS[task], [case.values for case in cases])
