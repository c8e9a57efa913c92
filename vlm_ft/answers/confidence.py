"""Calibrated probabilities, and the decision to answer or to ask a person, fitted on the `calibrate` role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from pydantic import Field

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Integer, Strict
from vlm_ft.answers.prediction import Distribution, Prediction

FLOOR = 1e-9
"""The minimum probability of an option: one that decoding did not resolve is improbable, not impossible."""


MIN_AGREEMENT, MAX_SHIFT = 0.99, 0.01  # of answers in bf16 with those in fp32


class Bound(Strict):
    """A guarantee: at most a share `risk` of the answers at or above `threshold` is wrong, at confidence `level`.

    `threshold` is None if `count` examples certify none; `needed` is the fewest that could, if all of them are right.
    `answered` is the number of examples at or above the threshold (without one, in the first test), and `wrong` is how
    many of those are wrong.
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
        """The guarantee, or why there is none."""
        if self.threshold is None and self.count < self.needed:
            return f"not certifiable with n={self.count}; needs {self.needed}, all of them right"
        if self.threshold is None:
            return (
                f"not certifiable with n={self.count}: {self.wrong} of the {self.answered} surest answers are wrong, "
                f"too many for a risk of {self.risk:.0%}"
            )
        return (
            f"at most {self.risk:.0%} of the answers that are at least {self.threshold:.0%} sure are wrong, at "
            f"{self.level:.0%} confidence ({self.wrong} of {self.answered} were, of {self.count} examples)"
        )


class Confidence(Strict):
    """The result of calibration: a temperature for each closed field, the bounds, and the lowest legal probability.

    `bound` is on whole answers, `bounds` on each closed field alone; none of them allows for the others. An answer that
    is given as a whole may have a field that is not sure enough on its own.
    `legal`: a person is asked if the model gave less than this to what the form allows (see `least_legal`); 0 on the
    cards of earlier versions, which have no `bounds` either.
    """

    temperatures: dict[str, float] = Field(description="of each closed field; above 1 if the model was overconfident")
    bound: Bound
    bounds: dict[str, Bound] = Field(default_factory=dict)
    legal: float = 0.0


class Familiar(Strict):
    """The score above which an example is unlike the training data, and how this threshold was found."""

    threshold: float
    false_alarms: float = Field(description="the share of familiar examples that may be flagged")
    trained: int = Field(description="number of training examples described")
    held_out: int = Field(description="number of examples from which the threshold was found")


class Agreement(Strict):
    """How well answers in bf16 agree with those in fp32, on examples that training did not see.

    `score`: the mean score of the bf16 answers (0 to 1, see `case_score`) if those in fp32 are the truth. `shift`: the
    mean absolute difference of the probability that every closed field is right.
    """

    count: int
    score: float
    shift: float

    @property
    def holds(self) -> bool:
        """Whether bf16 can replace fp32, including the threshold that was fitted in fp32."""
        return self.score >= MIN_AGREEMENT and self.shift <= MAX_SHIFT

    @property
    def in_words(self) -> str:
        """Whether the answers agree, and how well."""
        return (
            f"answers {'agree' if self.holds else 'do not agree'} with those in fp32: score {self.score:.3f}, "
            f"probabilities within {self.shift:.3f} on average, on {self.count} examples"
        )


def closed_fields(form: Form) -> tuple[str, ...]:
    """The fields with a calibrated probability: choices, flags and bounded integers."""
    return tuple(field.name for field in form.fields if isinstance(field.kind, Choice | Flag | Integer))


def tempered(distribution: Distribution, temperature: float) -> dict[str, float]:
    """The distribution at another temperature: proportional to ``p ** (1 / temperature)`` (Guo et al. 2017)."""
    logs = np.log(np.maximum(list(distribution.values()), FLOOR)) / temperature
    shares = np.exp(logs - logs.max())
    return dict(zip(distribution, (shares / shares.sum()).tolist(), strict=True))


def before_tempering(form: Form, temperatures: Mapping[str, float]) -> Form:
    """The form with its thresholds converted for the decoder, whose probabilities are not yet calibrated."""
    moved = {
        name: 1 / (1 + ((1 - threshold) / threshold) ** temperatures.get(name, 1.0))
        for name, threshold in form.thresholds.items()
    }
    return form.model_copy(update={"thresholds": moved})


def joint_probability(names: Sequence[str], prediction: Prediction) -> float | None:
    """The probability that all these closed fields are right; None without any, or if the answer failed.

    Each field's distribution is conditional on the fields before it, so the product is their joint probability.
    """
    found = [prediction.fields[name].probability for name in names if name in prediction.fields]
    if not names or len(found) < len(names) or None in found:
        return None
    return prod(value for value in found if value is not None)


def least_legal(names: Sequence[str], prediction: Prediction) -> tuple[float, str]:
    """The lowest probability, over these fields, of what the form allows, and the field; 1 if none is known."""
    found = [(prediction.fields[name].legal, name) for name in names if name in prediction.fields]
    return min(((legal, name) for legal, name in found if legal is not None), default=(1.0, ""))


def at_temperatures(prediction: Prediction, temperatures: Mapping[str, float]) -> Prediction:
    """The prediction with the distributions of these fields tempered."""
    changed = {
        name: replace(entry, distribution=tempered(entry.distribution, temperatures[name]))
        for name, entry in prediction.fields.items()
        if name in temperatures and entry.distribution is not None
    }
    return replace(prediction, fields={**prediction.fields, **changed})


def with_confidence(form: Form, prediction: Prediction, confidence: Confidence | None) -> Prediction:
    """The prediction with calibrated distributions, and with the decisions that the bounds allow.

    A prediction that is left to a person because of its input stays so in every field.
    """
    if confidence is None or prediction.error is not None:
        return prediction
    prediction = at_temperatures(prediction, confidence.temperatures)
    fields = dict(prediction.fields)
    for name, bound in confidence.bounds.items():
        if name in fields:
            reason = prediction.reason or _doubt((name,), prediction, bound, confidence.legal)
            fields[name] = replace(fields[name], decision="ask a person" if reason else "answer", reason=reason or None)
    reason = prediction.reason or _doubt(closed_fields(form), prediction, confidence.bound, confidence.legal)
    prediction = replace(prediction, fields=fields)
    return prediction.doubted(reason) if reason else prediction


def _doubt(names: Sequence[str], prediction: Prediction, bound: Bound, least: float) -> str:
    """Why a person must decide on these closed fields; "" if the bound allows the answer."""
    sure, fields = joint_probability(names, prediction), prediction.fields
    if sure is None:
        return "not every field has a probability" if len(names) > 1 else "no probability"
    if bound.threshold is None:
        return bound.in_words
    if sure < bound.threshold:
        unsure = min(names, key=lambda name: fields[name].probability or 0.0)
        one = f", and only {fields[unsure].probability:.0%} of {unsure}" if len(names) > 1 else ""
        return f"{sure:.0%} sure{' of the whole answer' if one else ''}, below {bound.threshold:.0%}{one}"
    legal, field = least_legal(names, prediction)
    if legal < least:
        return f"{field}: the model gave only {legal:.1%} of its probability to what the form allows, below {least:.1%}"
    return ""
