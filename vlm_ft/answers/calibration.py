"""Fit what `Confidence` holds, on answers to examples that training did not see.

A temperature for each field by likelihood (Guo et al. 2017), and the threshold by learn-then-test (Angelopoulos et al.
2021) with an exact binomial bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.confidence import Bound, Confidence, at_temperatures, closed_fields, sureness, tempered
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import clusters_of
from vlm_ft.answers.prediction import Distribution, Prediction, option_name
from vlm_ft.answers.task import Values

RISK, LEVEL = 0.05, 0.90
FEWEST = 20
"""Examples of a field, below which its temperature stays 1."""

HOTTEST = 20.0
TINY = 1e-300  # the least share whose logarithm is taken
STEPS = 20
"""How many thresholds are tested, at equal steps of coverage."""


def calibrated(
    form: Form,
    truths: Sequence[Values],
    predictions: Sequence[Prediction],
    groups: Sequence[str],
    *,
    risk: float = RISK,
    level: float = LEVEL,
    seed: int = 0,
) -> Confidence:
    """The temperatures, then the bound on the answers as they are served with them; see `certified`."""
    temperatures = {
        name: temperature
        for name in closed_fields(form)
        if (temperature := _temperature(stated(name, truths, predictions))) is not None
    }
    sure, right = judged(form, truths, [at_temperatures(entry, temperatures) for entry in predictions])
    told = ~np.isnan(sure)
    kept = _one_a_group([group for group, known in zip(groups, told, strict=True) if known], seed)
    bound = certified(sure[told][kept], right[told][kept], risk=risk, level=level)
    return Confidence(temperatures=temperatures, bound=bound)


def stated(name: str, truths: Sequence[Values], predictions: Sequence[Prediction]) -> list[tuple[Distribution, str]]:
    """The distribution of a field and its true option, of each answer that has both."""
    found = []
    for truth, prediction in zip(truths, predictions, strict=True):
        entry = prediction.fields.get(name)
        if entry is not None and entry.distribution and name in truth:
            option = option_name(truth[name])
            if option in entry.distribution:
                found.append((entry.distribution, option))
    return found


def judged(
    form: Form, truths: Sequence[Values], predictions: Sequence[Prediction]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How sure each answer is, NaN where that is unknown, and whether every observed closed field is right."""
    sure = [sureness(form, prediction) for prediction in predictions]
    names = closed_fields(form)
    right = [
        prediction.error is None and all(prediction.values.get(name) == truth[name] for name in names if name in truth)
        for truth, prediction in zip(truths, predictions, strict=True)
    ]
    seen = [any(name in truth for name in names) for truth in truths]
    known = [value if value is not None and told else np.nan for value, told in zip(sure, seen, strict=True)]
    return np.array(known, dtype=np.float64), np.array(right, dtype=np.bool_)


def log_loss(pairs: Sequence[tuple[Distribution, str]], temperature: float = 1.0, smoothing: float = 0.0) -> float:
    """The mean of ``-log p(true option)``, in nats; `smoothing` is the weight of the other options, in equal shares."""
    losses = []
    for found, true in pairs:
        logs = {option: log(max(share, TINY)) for option, share in tempered(found, temperature).items()}
        others = sum(logs.values()) - logs[true]
        losses.append((1 - smoothing) * logs[true] + smoothing * others / max(len(logs) - 1, 1))
    return -float(np.mean(losses))


def _temperature(pairs: Sequence[tuple[Distribution, str]]) -> float | None:
    """The most likely one; None where there is nothing to choose from, 1 where there are few examples.

    Targets are smoothed by the rule of succession (Platt 1999), or examples that are all right would have it vanish.
    """
    from scipy.optimize import minimize_scalar

    if not pairs or len(pairs[0][0]) < 2:
        return None
    if len(pairs) < FEWEST:
        return 1.0
    smoothing = 1 / (len(pairs) + 2)
    found = minimize_scalar(
        lambda size: log_loss(pairs, float(np.exp(size)), smoothing), bounds=(-log(HOTTEST), log(HOTTEST))
    )
    return round(float(np.exp(found.x)), 4)


def _one_a_group(groups: Sequence[str], seed: int) -> NDArray[np.int64]:
    """One example of each group, drawn: the bound counts independent ones."""
    clusters = clusters_of(groups)
    order = np.random.default_rng(seed).permutation(len(clusters))
    _, first = np.unique(clusters[order], return_index=True)
    return np.sort(order[first])


def certified(
    sure: NDArray[np.float64], right: NDArray[np.bool_], *, risk: float = RISK, level: float = LEVEL
) -> Bound:
    """The lowest threshold above which answers are proved to be wrong at most so often.

    Thresholds are tested in a fixed sequence, from the surest half (or as many as could pass at all) to all of them,
    and the first that fails ends it; so the chance that the promise fails is at most ``1 - level`` (Bauer 1991).
    A test passes where so few mistakes among the answers would have a probability of at most ``1 - level`` at that
    risk (Clopper & Pearson 1934). How many are tested depends on how sure the answers are, never on whether they are
    right.
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
