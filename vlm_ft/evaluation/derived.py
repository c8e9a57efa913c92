"""How right is what follows from an answer: money and priorities, derived from predicted and labelled values.

A labelled case counts where its own values tell the derived fact whole: a priced estimate, a known priority.

- `mae`, `median_error`: between the middles of the two estimates, in the card's currency, over the cases that
  the prediction prices whole;
- `within_20_percent`: share of all counted cases whose predicted middle is that close to the labelled one;
- `not_priced`: share of all counted cases that the prediction does not price, or not whole;
- `accuracy`: of the priority, where "unknown" is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.derivations.estimate import Estimate
from vlm_ft.answers.derivations.priority import UNKNOWN
from vlm_ft.answers.form import Form, paths
from vlm_ft.answers.intervals import INTERVAL, RESAMPLES, clusters_of
from vlm_ft.answers.metrics import Metric
from vlm_ft.answers.task import Values

CLOSE = 0.2  # of the labelled estimate

Derived = dict[str, Values]
Column = NDArray[np.float64]  # one number a case; NaN where it has none
Statistic = Callable[[Column], float]


def measure_derived(
    form: Form, truths: Sequence[Derived], predictions: Sequence[Derived], groups: Sequence[str], seed: int = 0
) -> tuple[Metric, ...]:
    """The figures of what follows, by the form's derivations; none where the labels tell nothing.

    `truths` and `predictions` are what `Form.derive` makes of them, in the same order ({} of a failed answer).
    Intervals are percentile bootstraps over groups, as in `metrics.measure`.
    """
    clusters, metrics = clusters_of(groups), list[Metric]()
    for entry in form.derivations:
        if not entry.derivable(paths(form.fields)):
            continue
        told = [index for index, truth in enumerate(truths) if TOLD[entry.kind](truth.get(entry.kind))]
        pairs = [(truths[index][entry.kind], predictions[index].get(entry.kind)) for index in told]
        for field, name, column, statistic in FIGURES[entry.kind](pairs) if pairs else ():
            has = ~np.isnan(column)
            if has.any():
                metrics.append(_metric(field, name, column[has], clusters[told][has], statistic, seed))
    return tuple(metrics)


def untold(form: Form, truths: Sequence[Derived]) -> tuple[str, ...]:
    """What the labels themselves do not tell whole, in a line each."""
    lines = []
    for entry in form.derivations:
        stated = [truth[entry.kind] for truth in truths if entry.kind in truth]
        missing = sum(not TOLD[entry.kind](values) for values in stated)
        if missing:
            lines.append(
                f"{missing} of {len(stated)} labelled examples have no whole {entry.kind} by {entry.name} "
                f"{entry.version} and are left out of its figures."
            )
    return tuple(lines)


def in_words(kind: str, values: Values | None) -> str:
    """What was derived, in a few words."""
    return "nothing" if values is None else WORDS[kind](values)


def _whole(values: Values | None) -> bool:
    return values is not None and bool(values["complete"])


def _known(values: Values | None) -> bool:
    return values is not None and values["priority"] != UNKNOWN


def _money(pairs: Sequence[tuple[Values, Values | None]]) -> Iterator[tuple[str, str, Column, Statistic]]:
    true = np.array([_middle(truth) for truth, _ in pairs])
    given = np.array([_middle(answer) if _whole(answer) else np.nan for _, answer in pairs])
    field, off = f"estimate in {pairs[0][0]['currency']}", np.abs(true - given)
    yield field, "mae", off, _mean
    yield field, "median_error", off, _median
    yield field, "within_20_percent", np.where(np.isnan(off), 0.0, off <= CLOSE * true), _mean
    yield field, "not_priced", np.isnan(given).astype(float), _mean


def _urgency(pairs: Sequence[tuple[Values, Values | None]]) -> Iterator[tuple[str, str, Column, Statistic]]:
    right = [answer is not None and answer["priority"] == truth["priority"] for truth, answer in pairs]
    yield "priority", "accuracy", np.array(right, dtype=float), _mean


TOLD: dict[str, Callable[[Values | None], bool]] = {"estimate": _whole, "priority": _known}
FIGURES: dict[str, Callable[..., Iterator[tuple[str, str, Column, Statistic]]]] = {
    "estimate": _money,
    "priority": _urgency,
}
WORDS: dict[str, Callable[[Values], str]] = {
    "estimate": lambda values: (
        f"{values['currency']} {values['low']:,.0f} to {values['high']:,.0f}"
        + (f", {len(values['not_priced'])} not priced" if values["not_priced"] else "")
    ),
    "priority": lambda values: str(values["priority"]).replace("_", " "),
}


def _middle(values: Any) -> float:
    return Estimate.model_validate(values).middle


def _mean(column: Column) -> float:
    return float(column.mean())


def _median(column: Column) -> float:
    return float(np.median(column))


def _metric(
    field: str, name: str, column: Column, clusters: NDArray[np.int64], statistic: Statistic, seed: int
) -> Metric:
    """The statistic, and its interval over draws of whole clusters with replacement."""
    members = [column[clusters == cluster] for cluster in np.unique(clusters)]
    dice, value = np.random.default_rng(seed), statistic(column)
    draws = [
        statistic(np.concatenate([members[place] for place in dice.integers(0, len(members), len(members))]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, INTERVAL)
    return Metric(
        field=field,
        name=name,
        value=value,
        low=min(value, float(low)),
        high=max(value, float(high)),
        count=len(column),
    )
