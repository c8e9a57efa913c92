"""Fit a `Confidence` on answers to examples that training did not see.

Each field's temperature maximises the likelihood (Guo et al. 2017). The threshold is found by learn-then-test
(Angelopoulos et al. 2021) with exact binomial tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.confidence import (
    Bound,
    Confidence,
    at_temperatures,
    closed_fields,
    joint_probability,
    least_legal,
    tempered,
)
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import clusters_of
from vlm_ft.answers.prediction import Distribution, Prediction, option_name
from vlm_ft.answers.task import Values

RISK, LEVEL = 0.05, 0.90
MIN_EXAMPLES = 20
"""A field with fewer examples keeps the temperature 1."""

MAX_LEGAL, ILLEGAL_SHARE = 0.5, 0.01
"""A person is asked if the form's options had together less than `MAX_LEGAL`, or less than this share of answers had.

Training on decisions compares options only with each other, so the options' sum may be low in good answers too.
"""

MAX_TEMPERATURE = 20.0
MIN_PROBABILITY = 1e-300  # the smallest probability whose logarithm is taken
STEPS = 20
"""The number of thresholds tested, evenly spaced in coverage."""


def calibrated(
    form: Form,
    truths: Sequence[Values],
    predictions: Sequence[Prediction],
    groups: Sequence[str],
    *,
    risk: float = RISK,
    level: float = LEVEL,
) -> Confidence:
    """Fit the temperatures, then the bounds on the answers as they are given at these temperatures; see `certified`.

    Answers that are withheld for another reason, their low legal probability, do not count for a bound.
    """
    names = closed_fields(form)
    temperatures = {
        name: temperature
        for name in names
        if (temperature := _temperature(distributions_with_truth(name, truths, predictions)[0])) is not None
    }
    served = [_decided(form, at_temperatures(entry, temperatures)) for entry in predictions]
    lowest = [least_legal(names, entry)[0] for entry in predictions]
    least = min(MAX_LEGAL, float(np.quantile(lowest, ILLEGAL_SHARE, method="lower")))

    def bound_on(names: Sequence[str]) -> Bound:
        sure, right = certainty_and_correctness(names, truths, served)
        legal = np.array([least_legal(names, entry)[0] for entry in predictions])
        known = ~np.isnan(sure) & (legal >= least)
        kept = _one_per_group([group for group, is_known in zip(groups, known, strict=True) if is_known])
        return certified(sure[known][kept], right[known][kept], risk=risk, level=level)

    bounds = {name: bound_on((name,)) for name in names}
    return Confidence(temperatures=temperatures, bound=bound_on(names), bounds=bounds, legal=least)


def _decided(form: Form, prediction: Prediction) -> Prediction:
    """The prediction with its flags decided by the form's thresholds at its present temperatures, as in serving."""
    fields = dict(prediction.fields)
    for name, threshold in form.thresholds.items():
        entry = fields.get(name)
        if entry is not None and entry.distribution is not None and isinstance(entry.value, bool):
            fields[name] = replace(entry, value=entry.distribution["true"] >= threshold)
    return replace(prediction, fields=fields)


def distributions_with_truth(
    name: str, truths: Sequence[Values], predictions: Sequence[Prediction]
) -> tuple[list[tuple[Distribution, str]], list[int]]:
    """The field's distribution and true option, of each answer that has both, and the indices of these answers."""
    pairs, places = list[tuple[Distribution, str]](), list[int]()
    for index, (truth, prediction) in enumerate(zip(truths, predictions, strict=True)):
        entry = prediction.fields.get(name)
        if entry is not None and entry.distribution and name in truth:
            option = option_name(truth[name])
            if option in entry.distribution:
                pairs.append((entry.distribution, option))
                places.append(index)
    return pairs, places


def certainty_and_correctness(
    names: Sequence[str], truths: Sequence[Values], predictions: Sequence[Prediction]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How sure each answer is of these closed fields (NaN if unknown), and whether all observed ones are right.

    Both are (examples,).
    """
    sure = [joint_probability(names, prediction) for prediction in predictions]
    right = [
        prediction.error is None and all(prediction.values.get(name) == truth[name] for name in names if name in truth)
        for truth, prediction in zip(truths, predictions, strict=True)
    ]
    observed = [any(name in truth for name in names) for truth in truths]
    known = [value if value is not None and seen else np.nan for value, seen in zip(sure, observed, strict=True)]
    return np.array(known, dtype=np.float64), np.array(right, dtype=np.bool_)


def log_loss(pairs: Sequence[tuple[Distribution, str]], temperature: float = 1.0, smoothing: float = 0.0) -> float:
    """The mean of ``-log p(true option)``, in nats; the other options share the weight `smoothing` equally."""
    losses = []
    for distribution, true in pairs:
        logs = {
            option: log(max(share, MIN_PROBABILITY)) for option, share in tempered(distribution, temperature).items()
        }
        others = sum(logs.values()) - logs[true]
        losses.append((1 - smoothing) * logs[true] + smoothing * others / max(len(logs) - 1, 1))
    return -float(np.mean(losses))


def _temperature(pairs: Sequence[tuple[Distribution, str]]) -> float | None:
    """The most likely temperature; None without at least two options, 1 with too few examples.

    Targets are smoothed by the rule of succession (Platt 1999); otherwise, if all examples were right, the temperature
    would fall to its lower bound.
    """
    from scipy.optimize import minimize_scalar

    if not pairs or len(pairs[0][0]) < 2:
        return None
    if len(pairs) < MIN_EXAMPLES:
        return 1.0
    smoothing = 1 / (len(pairs) + 2)
    found = minimize_scalar(
        lambda exponent: log_loss(pairs, float(np.exp(exponent)), smoothing),
        bounds=(-log(MAX_TEMPERATURE), log(MAX_TEMPERATURE)),
    )
    return round(float(np.exp(found.x)), 4)


def _one_per_group(groups: Sequence[str]) -> NDArray[np.int64]:
    """The index of one random example of each group: the bound requires independent examples."""
    clusters = clusters_of(groups)
    order = np.random.default_rng(0).permutation(len(clusters))
    _, first = np.unique(clusters[order], return_index=True)
    return np.sort(order[first])


def certified(
    sure: NDArray[np.float64], right: NDArray[np.bool_], *, risk: float = RISK, level: float = LEVEL
) -> Bound:
    """The lowest threshold above which at most a share `risk` of the answers is wrong, at confidence `level`.

    Thresholds are tested in a fixed sequence that ends at the first failure, so the bound is false with a probability
    of at most ``1 - level`` (Bauer 1991). The sequence starts with the surest half of the answers (or the fewest that
    could pass) and ends with all of them. A test passes if, at that risk, so few wrong answers would have a
    probability of at most ``1 - level`` (Clopper & Pearson 1934). Which thresholds are tested depends on how sure the
    answers are, never on whether they are right.
    """
    from scipy.stats import binom

    needed = ceil(log(1 - level) / log(1 - risk))
    bound = Bound(risk=risk, level=level, threshold=None, count=len(sure), needed=needed)
    ordered = np.sort(sure)[::-1]
    first = max(needed, len(sure) // 2)
    for count in np.unique(np.linspace(first, len(sure), STEPS).astype(int)) if len(sure) >= needed else ():
        threshold = float(ordered[count - 1])
        answered = sure >= threshold
        wrong = int((~right[answered]).sum())
        tested = {"answered": int(answered.sum()), "wrong": wrong}
        if binom.cdf(wrong, answered.sum(), risk) > 1 - level:
            return bound if bound.threshold is not None else bound.model_copy(update=tested)
        bound = bound.model_copy(update={"threshold": threshold, **tested})
    return bound
