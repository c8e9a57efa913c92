"""How sure an answer is, and whether it may stand: what was fitted on the `calibrate` role, applied to predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
from pydantic import Field

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Integer, Strict
from vlm_ft.answers.prediction import Distribution, FieldValue, Prediction

FLOOR = 1e-9
"""What an option has at least: one that decoding did not tell apart is improbable, not impossible."""


class Bound(Strict):
    """A promise: of the answers at least this sure, at most a share `risk` is wrong, at confidence `level`.

    `threshold` is None where `count` examples do not suffice; `needed` is how many would, were all of them right.
    `answered` are the examples at or above the threshold (without one, those tested first), and `wrong` of them are.
    """

    risk: float
    level: float
    threshold: float | None
    count: int
    needed: int
    answered: int = 0
    wrong: int = 0

    @property
    def in_words(self) -> str:
        """The promise, or why there is none."""
        if self.threshold is None and self.count < self.needed:
            return f"not certifiable with n={self.count}; needs {self.needed}, all of them right"
        if self.threshold is None:
            return (
                f"not certifiable with n={self.count}: {self.wrong} of the {self.answered} surest answers are wrong, "
                f"too many for a risk of {self.risk:.0%}"
            )
        return (
            f"at most {self.risk:.0%} of the answers at or above {self.threshold:.2f} are wrong, at {self.level:.0%} "
            f"confidence ({self.wrong} of {self.answered} were, of {self.count} examples)"
        )


class Confidence(Strict):
    """What was fitted on the `calibrate` role: a temperature for each closed field, and the bound."""

    temperatures: dict[str, float] = Field(description="of each closed field; above 1: it was too sure")
    bound: Bound


class Familiar(Strict):
    """On the card: the score above which an example is unlike the training data, and how it was found."""

    threshold: float
    false_alarms: float = Field(description="the share of familiar examples that may be flagged")
    trained: int = Field(description="training examples that the description is of")
    held_out: int = Field(description="examples that the threshold was found on")


def closed_fields(form: Form) -> tuple[str, ...]:
    """The fields of which a calibrated probability is kept: choices, flags and bounded integers."""
    return tuple(field.name for field in form.fields if isinstance(field.kind, Choice | Flag | Integer))


def tempered(distribution: Distribution, temperature: float) -> dict[str, float]:
    """The distribution at another temperature: proportional to ``p ** (1 / temperature)`` (Guo et al. 2017)."""
    logs = np.log(np.maximum(list(distribution.values()), FLOOR)) / temperature
    shares = np.exp(logs - logs.max())
    return dict(zip(distribution, (shares / shares.sum()).tolist(), strict=True))


def sureness(form: Form, prediction: Prediction) -> float | None:
    """The probability that every closed field is right; None where the form has none, or the answer failed.

    Each field's distribution is conditional on the fields before it, so their product is that of all of them.
    """
    names = closed_fields(form)
    found = [prediction.fields[name].probability for name in names if name in prediction.fields]
    if not names or len(found) < len(names) or None in found:
        return None
    return prod(value for value in found if value is not None)


def at_temperatures(prediction: Prediction, temperatures: Mapping[str, float]) -> Prediction:
    """The prediction with the distributions of these fields tempered."""
    fields = {name: _field(entry, temperatures.get(name)) for name, entry in prediction.fields.items()}
    return replace(prediction, fields=fields)


def with_confidence(form: Form, prediction: Prediction, confidence: Confidence | None) -> Prediction:
    """The prediction with calibrated distributions, and the decision that the bound allows."""
    if confidence is None or prediction.error is not None:
        return prediction
    prediction = at_temperatures(prediction, confidence.temperatures)
    sure, least = sureness(form, prediction), confidence.bound.threshold
    if prediction.decision != "answer":
        return prediction
    if sure is None:
        return replace(prediction, decision="ask a person", reason="not every field has a probability")
    if least is None:
        return replace(prediction, decision="ask a person", reason=f"no bound: {confidence.bound.in_words}")
    if sure < least:
        fields = prediction.fields
        unsure = min(closed_fields(form), key=lambda name: fields[name].probability or 0.0)
        reason = f"{unsure}: {fields[unsure].probability:.0%} sure, {sure:.2f} for the whole answer, below {least:.2f}"
        return replace(prediction, decision="ask a person", reason=reason)
    return prediction


def _field(entry: FieldValue, temperature: float | None) -> FieldValue:
    if temperature is None or entry.distribution is None:
        return entry
    return replace(entry, distribution=tempered(entry.distribution, temperature))
