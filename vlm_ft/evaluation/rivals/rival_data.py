"""What a rival learns from, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_vision.example import Example
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Case


@dataclass(frozen=True)
class RivalData:
    """The data for a rival. `tower` is None for a base without vision; `seconds` is the most that a rival may train."""

    form: Form
    train: Sequence[Case]
    tune: Sequence[Case]
    test: Sequence[Example]
    tower: Tower | None = None
    seconds: float = 60.0


@dataclass(frozen=True)
class RivalAnswers:
    """One prediction per test example, for the part of the form that the rival answers, and how it was fitted."""

    form: Form
    predictions: list[Prediction]
    settings: str = ""

    @classmethod
    def of(cls, form: Form, columns: Mapping[str, Sequence[Any]], settings: str = "") -> RivalAnswers | None:
        """The answers given by one column per field; None if there are no columns.

        A column has a value or `FieldValue` per example, None if the example lacks the input.
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
