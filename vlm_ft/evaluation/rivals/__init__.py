"""The rivals that an adapter has to beat; each is evaluated if it can answer a field and read an input.

Like the adapter, they learn from the `train` examples and make their choices on `tune`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vlm_ft.evaluation.rivals import detector, linear, texts
from vlm_ft.evaluation.rivals.rival_data import Attempt, RivalData

MAJORITY, PROBE = "majority", "probe"


@dataclass(frozen=True)
class Rival:
    """A rival; `answer` returns None if it has nothing to learn from, or no field to answer."""

    explanation: str
    answer: Callable[[RivalData], Attempt | None]


RIVALS = {
    MAJORITY: Rival("always the most common answer of the training examples", texts.majority),
    PROBE: Rival("logistic regression on the features of the base's own frozen vision tower", linear.probe),
    "detector": Rival("a small detection head on the feature map of the same frozen tower", detector.detector),
    "words": Rival("logistic regression on the words and word pairs of the text (TF-IDF)", linear.words),
    "neighbour": Rival("the reply to the most similar training text (TF-IDF)", texts.neighbour),
    "first line": Rival("a copy of the text's first line, such as the title of a paper", texts.first_line),
}
