"""What a rival learns from, and what a system answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_vision.example import Example, text_of
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Case


class NothingToLearnError(Exception):
    """The training examples have an input, but nothing that the rival could learn from."""


@dataclass(frozen=True)
class RivalData:
    """The data for a rival. `tower` is None for a base without vision; a rival may train for up to `seconds`."""

    form: Form
    train: Sequence[Case]
    tune: Sequence[Case]
    test: Sequence[Example]
    tower: Tower | None = None
    seconds: float = 60.0


@dataclass(frozen=True)
class Attempt:
    """One prediction per test example, for the part of the form that the system answers, and how a rival was fitted."""

    form: Form
    predictions: list[Prediction]
    settings: str = ""

    @classmethod
    def of(cls, form: Form, columns: Mapping[str, Sequence[Any]], settings: str = "") -> Attempt | None:
        """The answers from one column per field; None if there are no columns.

        A column has one value or `FieldValue` per example; None if the example lacks the input.
        """
        if not columns:
            return None
        predictions = []
        for row in zip(*columns.values(), strict=True):
            values = {name: _entry(value) for name, value in zip(columns, row, strict=True) if value is not None}
            predictions.append(Prediction(fields=values) if values else Prediction.failed("no input to answer from"))
        return cls(form.narrow(tuple(columns)), predictions, settings)


def _entry(value: Any) -> FieldValue:
    return value if isinstance(value, FieldValue) else FieldValue(value)


def tfidf() -> Any:
    """Counts words and word pairs, with sublinear term frequency."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import; the app does without it

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def with_words(cases: Sequence[Case]) -> list[Case]:
    """The cases whose text has a word that `tfidf` counts.

    Raises `NothingToLearnError` if there are texts but none has such a word, for example if each is a single digit.
    """
    words_of, texts = tfidf().build_analyzer(), [(case, text_of(case.example.turns)) for case in cases]
    found = [case for case, text in texts if words_of(text)]
    if not found and any(text for _, text in texts):
        raise NothingToLearnError("no training text has a word of two or more characters")
    return found
