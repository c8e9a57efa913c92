"""`Rated`: a predictor whose answers carry the score of a reward model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vlm_ft.adapters import Card
from vlm_ft.conversation import Row
from vlm_ft.inference.request import Attributed, Predictor, Request
from vlm_ft.reward_model import RewardModel


class Rated:
    """Asks another predictor, and rates its answers."""

    def __init__(self, predictor: Predictor, judge: RewardModel) -> None:
        self.judge = judge
        self._predictor = predictor
        self._lock = threading.Lock()

    @property
    def cards(self) -> Mapping[str, Card]:
        return self._predictor.cards

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """Like `Predictor.predict`, with rewards; an answer that failed has none."""
        answers = self._predictor.predict(requests)
        rows = [Row(self.judge.card.form, request.turns, request.images) for request in requests]
        with self._lock:
            scores = self.judge.rate(rows, answers)
        return [
            answer if answer.error is not None else replace(answer, reward=score)
            for answer, score in zip(answers, scores, strict=True)
        ]
