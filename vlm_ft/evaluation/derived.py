"""Compare results derived from answers with those derived from labels.

A labelled case counts if its label determines the result (`Result.definite`): a complete estimate, a known priority.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.derivations import Derivation
from vlm_ft.answers.derivations.result import Result
from vlm_ft.answers.form import Form, by_path
from vlm_ft.answers.intervals import Figure, clusters_of
from vlm_ft.answers.metrics import Metric

Derived = Mapping[str, Mapping[str, Any]]


def measure_derived(
    form: Form, truths: Sequence[Derived], predictions: Sequence[Derived], groups: Sequence[str]
) -> tuple[Metric, ...]:
    """The metrics of the form's derivations (`Result.figures`); none if the labels determine no result.

    `truths` and `predictions` are results of `Form.derive`, in the same order ({} for a failed answer). Intervals are
    over groups, as in `metrics.measure`; those of a median are percentiles of the bootstrap.
    """
    clusters, metrics = clusters_of(groups), list[Metric]()
    for entry in form.derivations:
        if not entry.derivable(by_path(form.fields)):
            continue
        labelled = {index: result for index, truth in enumerate(truths) if (result := _result(entry, truth))}
        places = [index for index, result in labelled.items() if result.definite]
        pairs = [(labelled[index], _result(entry, predictions[index])) for index in places]
        if pairs:
            metrics += _metrics(entry, pairs, clusters[places])
    return tuple(metrics)


def incomplete(form: Form, truths: Sequence[Derived]) -> tuple[str, ...]:
    """A note on each derivation that some labels do not determine."""
    lines = []
    for entry in form.derivations:
        results = [result for truth in truths if (result := _result(entry, truth))]
        if missing := sum(not result.definite for result in results):
            lines.append(
                f"The labels of {missing} of {len(results)} examples do not determine the {entry.kind} by {entry.name} "
                f"{entry.version}; its figures leave these examples out."
            )
    return tuple(lines)


def in_words(derivation: Derivation, derived: Derived) -> str:
    """The result of a derivation in a few words."""
    result = _result(derivation, derived)
    return "nothing" if result is None else result.text


def _result(derivation: Derivation, derived: Derived) -> Result | None:
    values = derived.get(derivation.kind)
    return None if values is None else derivation.result.model_validate(values)


def _metrics(derivation: Derivation, pairs: list[tuple[Any, Any]], clusters: NDArray[np.int64]) -> Iterator[Metric]:
    for field, name, cases, statistic in derivation.result.figures(pairs):
        column = np.array(cases, dtype=float)  # NaN for a case without a number
        known = ~np.isnan(column)
        column, members = column[known], clusters[known]
        if not len(column):
            continue
        match statistic:
            case "share":
                figure = Figure.share(column, members)
            case "mean":
                figure = Figure.mean(column, members)
            case "median":
                figure = Figure.resampled(np.median, members, column)
        yield Metric(field=field, name=name, count=len(column), **dict(figure))
