"""The card of an adapter, and what it answers, without an adapter."""

from __future__ import annotations

from typing import Any, Literal

from vlm_ft.adapters import Card, Provenance
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction, option_name
from vlm_ft.answers.task import Task, Values
from vlm_ft.bases.base_ref import BaseRef


def card_of(form: Form, name: str = "trial", kind: Literal["vision", "text"] = "vision", **more: Any) -> Card:
    """The card of an adapter that answers this form, and was trained on drawings."""
    base = BaseRef(name="tiny", fingerprint="0" * 16, model_type="tiny", kind=kind)
    provenance = Provenance(data=("drawn",), data_fingerprint="0", counts={"train": 8}, synthetic=True)
    return Card(name=name, form=form, base=base, provenance=provenance, **more)


def answered(values: Values) -> Prediction:
    """A prediction of these values, without probabilities."""
    return Prediction(fields={name: FieldValue(value) for name, value in values.items()})


def sample_prediction(task: Task, sure: float | None = None) -> Prediction:
    """The task's sample as an adapter would give it; `sure`: the probability of each value that is not a list."""
    values = task.sample.model_dump(mode="json")
    if sure is None:
        return answered(values)
    given = {name: None if isinstance(value, list) else {option_name(value): sure} for name, value in values.items()}
    return Prediction({name: FieldValue(value, given[name]) for name, value in values.items()})
