"""Metrics of answers, derived from the kind of each field, with intervals. Conventions:

- A row whose true values lack a field (unobserved) is left out of that field's figures.
- A failed prediction, or one that lacks the field, is wrong: it counts as a wrong class, the largest possible
  distance, a text with no words in common, or a list that misses every true item and invents one.
- Figures cover all answers, whether the decision is "answer" or "ask a person".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, partial
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.average_precision import average_precisions
from vlm_ft.answers.boxes import iou
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import Figure, Statistic, Sums, bca_interval, clusters_of, mean, share_interval, summed
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Values

IOU_THRESHOLD = 0.5  # Everingham et al. 2010 (PASCAL VOC), section 4.2
LOWER_IS_BETTER = frozenset({"mae", "median_error", "not_priced"})
WHOLE = ""
"""The field name of figures about the whole answer."""

Row = tuple[float, ...]
Pair = tuple[Any, Any]
"""A true value and the answered one, which is None if the answer failed or lacks the field."""


class Metric(Figure):
    """One figure over `count` examples.

    `field` is "" for `valid`, the share of predictions without an error. Values are 0..1 and higher is better, except
    for those in `LOWER_IS_BETTER`: `mae` and `median_error`, in the units of their field, and `not_priced`.
    """

    field: str
    name: str
    count: int


def measure(
    form: Form,
    truths: Sequence[Values],
    predictions: Sequence[Prediction],
    groups: Sequence[str] | None = None,
) -> tuple[Metric, ...]:
    """Compare predictions with the observed values; both are in the same order.

    choice, flag: `accuracy`; `macro_f1`, the unweighted mean of F1 over all true or answered classes, as
    scikit-learn's ``f1_score(average="macro")``. flag, too: `balanced_accuracy`, the mean of the recalls of true and of
    false, as scikit-learn's ``balanced_accuracy_score``.
    integer: `mae`. text: `exact` (without surrounding whitespace), `rouge_l` (F1; Lin 2004). box: `iou`.
    items: `precision`, `recall`, `f1` over all items (micro). Items with boxes are matched by `match_items`, and
    `localisation_f1` ignores their names; `ap50` and `ap` rank them (see `average_precisions`). Items without boxes
    are compared by their choices, as a multiset.

    Intervals are Wilson's for shares of examples (`valid`, `accuracy`, `exact`), those of `average_precisions` for
    `ap50` and `ap`, and bias-corrected, accelerated bootstraps for the rest (see `intervals`). All are over whole
    groups if `groups` is given (Field & Welsh 2007, cluster bootstrap); each example of the group "" is its own
    cluster. The order of rows does not matter. Raises `ValueError` if the lengths differ.
    """
    groups = [""] * len(truths) if groups is None else groups
    if not len(truths) == len(predictions) == len(groups):
        raise ValueError(f"{len(truths)} truths, {len(predictions)} predictions, {len(groups)} groups")
    if not truths:
        return ()
    clusters = clusters_of(groups)
    metrics = [_metric(WHOLE, clusters, "valid", [(float(entry.error is None), 1.0) for entry in predictions])]
    for field in form.fields:
        seen = [index for index, truth in enumerate(truths) if field.name in truth]
        observed = [truths[index][field.name] for index in seen]
        entries = [predictions[index].fields.get(field.name) for index in seen]
        if seen:
            metrics += _metrics(field, observed, entries, clusters[seen])
    return tuple(metrics)


def case_score(form: Form, truth: Values, prediction: Prediction) -> float:
    """The score of one answer, 0..1: the mean over its observed fields; 0 if it failed or none is observed.

    choice, flag: 1 or 0; integer: 1 / (1 + distance); text: ROUGE-L; box: IoU; items: F1.
    """
    scores = [
        field_score(field.kind, truth[field.name], prediction.values.get(field.name))
        for field in form.fields
        if field.name in truth
    ]
    return sum(scores) / len(scores) if scores else 0.0


def field_score(kind: Kind, truth: Any, answer: Any) -> float:
    """The score of one field, 0..1 (see `case_score`); an answer of None scores 0."""
    if answer is None:
        return 0.0
    match kind:
        case Choice() | Flag():
            return float(truth == answer)
        case Integer():
            return 1.0 / (1 + abs(int(truth) - int(answer)))
        case Text():
            return rouge_l(truth, answer)
        case BoxKind():
            return float(iou([truth], [answer])[0, 0])
        case Items():
            return float(_f1(np.array(_item_counts(kind, truth, answer))))


def majority(form: Form, truths: Iterable[Values]) -> Values:
    """The majority answer of the training examples: the baseline that ignores the input.

    For each field, it is the most common class, text, or list of items without boxes; the lower median of integers; or
    an empty list of items with boxes. Ties go to the first in order. Fields that no example states are left out.
    """
    seen: dict[str, list[Any]] = {field.name: [] for field in form.fields}
    for truth in truths:
        for name in seen.keys() & truth.keys():
            seen[name].append(truth[name])
    return {field.name: _majority_value(field.kind, seen[field.name]) for field in form.fields if seen[field.name]}


def match_items(
    kind: Items, truth: Sequence[Values], answer: Sequence[Values], named: bool = True
) -> list[tuple[int, int]]:
    """Match true and answered items by their boxes; the pairs of positions (true, answered).

    Two items can match if their IoU is at least 0.5 and, if `named`, their first choices are equal. Each item is
    matched at most once. Of the matchings with the most pairs, the one with the largest total IoU is taken (assignment
    problem, Kuhn 1955). PASCAL VOC matches greedily by confidence, which these lists do not have.
    """
    from scipy.optimize import linear_sum_assignment

    if not truth or not answer or kind.box is None:
        return []
    overlap = iou([row.get(kind.box) for row in truth], [row.get(kind.box) for row in answer])
    allowed = overlap >= IOU_THRESHOLD
    if named and kind.name is not None:
        allowed &= np.array([[left.get(kind.name) == right.get(kind.name) for right in answer] for left in truth])
    gain = np.where(allowed, min(overlap.shape) + overlap, 0.0)  # one more match outweighs any overlap
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]


def rouge_l(truth: str, answer: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004), 1 for equal texts.

    Words are runs of letters and digits of any script, in lower case, unstemmed.
    """
    if truth.strip() == answer.strip():
        return 1.0
    return float(_rouge().score(truth, answer)["rougeL"].fmeasure)


def _metrics(
    field: FieldSpec, truths: Sequence[Any], entries: Sequence[FieldValue | None], clusters: NDArray[np.int64]
) -> list[Metric]:
    """The figures of one field, by its kind."""
    kind, figure = field.kind, partial(_metric, field.name, clusters)
    pairs = [(true, None if entry is None else entry.value) for true, entry in zip(truths, entries, strict=True)]
    match kind:
        case Choice() | Flag():
            counts = _class_counts(pairs)
            accuracy = figure("accuracy", [(float(true == given), 1.0) for true, given in pairs])
            found = [accuracy, figure("macro_f1", counts, _macro_f1)]
            if isinstance(kind, Flag):
                found.append(figure("balanced_accuracy", counts, _balanced_accuracy))
            return found
        case Integer():
            rows = [(_distance(kind, *pair), 1.0) for pair in pairs]
            return [figure("mae", rows, mean, max(1, kind.maximum - kind.minimum))]
        case Text():
            exact = [(float(given is not None and true.strip() == given.strip()), 1.0) for true, given in pairs]
            rouge = [(field_score(kind, *pair), 1.0) for pair in pairs]
            return [figure("exact", exact), figure("rouge_l", rouge, mean)]
        case BoxKind():
            return [figure("iou", [(field_score(kind, *pair), 1.0) for pair in pairs], mean)]
        case Items():
            counts = [_item_counts(kind, *pair) for pair in pairs]
            shares = {"precision": _precision, "recall": _recall, "f1": _f1}
            found = [figure(name, counts, share) for name, share in shares.items()]
            if kind.boxed and kind.name is not None:
                located = [_item_counts(kind, *pair, named=False) for pair in pairs]
                found.append(figure("localisation_f1", located, _f1))
            for name, value in (average_precisions(kind, truths, entries, clusters) if kind.boxed else {}).items():
                found.append(Metric(field=field.name, name=name, count=len(pairs), **dict(value)))
            return found


def _metric(
    field: str,
    clusters: NDArray[np.int64],
    name: str,
    rows: Sequence[Row],
    statistic: Statistic | None = None,
    top: float = 1.0,
) -> Metric:
    """A figure from what each example adds, (examples, columns), and the statistic of the sums, at most `top`.

    Without a `statistic`, it is a share of right answers.
    """
    sums = summed(np.asarray(rows, dtype=float), clusters)
    value = float((statistic or mean)(sums.sum(axis=0)))
    interval = share_interval(sums) if statistic is None else bca_interval(sums, statistic, top)
    return Metric(field=field, name=name, count=len(rows), **dict(Figure.of(value, interval)))


def _item_counts(kind: Items, truth: Sequence[Values], answer: Sequence[Values] | None, named: bool = True) -> Row:
    """(matched, answered, true); a failed answer counts as one invented item, so that it is never right."""
    if answer is None:
        return 0.0, 1.0, float(len(truth))
    if kind.boxed:
        matched = len(match_items(kind, truth, answer, named))
    else:
        matched = (Counter(_keys(kind, truth)) & Counter(_keys(kind, answer))).total()
    return float(matched), float(len(answer)), float(len(truth))


def _keys(kind: Items, rows: Sequence[Values]) -> list[str]:
    """The keys that identify items without boxes: all their choices or, without choices, all their parts."""
    names = [field.name for field in kind.fields if isinstance(field.kind, Choice)]
    names = names or [field.name for field in kind.fields]
    return [json.dumps([row.get(name) for name in names]) for row in rows]


def _class_counts(pairs: Sequence[Pair]) -> list[Row]:
    """For each true or answered class: true positives, false positives, false negatives, (examples, 3 x classes)."""
    classes = sorted({name for pair in pairs for name in pair if name is not None})
    place = {name: 3 * index for index, name in enumerate(classes)}
    rows = np.zeros((len(pairs), 3 * len(place)))
    for row, (true, given) in zip(rows, pairs, strict=True):
        row[place[true] + (0 if true == given else 2)] = 1
        if given not in (true, None):
            row[place[given] + 1] = 1
    return [tuple(row) for row in rows.tolist()]


def _distance(kind: Integer, truth: int, answer: int | None) -> float:
    worst = max(truth - kind.minimum, kind.maximum - truth)
    return float(worst if answer is None else abs(truth - answer))


def _macro_f1(sums: Sums) -> Sums:
    """Mean F1 over the classes that occur in the sample or resample, true or answered."""
    hits, invented, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    weights = 2 * hits + invented + missed
    scores = 2 * hits / np.maximum(weights, 1)
    return np.asarray(scores.sum(axis=-1) / np.maximum((weights > 0).sum(axis=-1), 1))


def _balanced_accuracy(sums: Sums) -> Sums:
    """Mean recall over the true classes of the sample or resample."""
    hits, _, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    recalls = hits / np.maximum(hits + missed, 1)
    return np.asarray(recalls.sum(axis=-1) / np.maximum((hits + missed > 0).sum(axis=-1), 1))


def _precision(sums: Sums) -> Sums:
    return _share(sums[..., 0], sums[..., 1], sums)


def _recall(sums: Sums) -> Sums:
    return _share(sums[..., 0], sums[..., 2], sums)


def _f1(sums: Sums) -> Sums:
    return _share(2 * sums[..., 0], sums[..., 1] + sums[..., 2], sums)


def _share(part: Sums, whole: Sums, sums: Sums) -> Sums:
    """part / whole; 0 / 0 is 1 if there were neither true nor answered items, otherwise 0."""
    nothing = (sums[..., 1] + sums[..., 2] == 0).astype(float)
    return np.where(whole > 0, part / np.maximum(whole, 1), nothing)


def _majority_value(kind: Kind, seen: Sequence[Any]) -> Any:
    match kind:
        case Integer():
            return median_low(seen)
        case Items() if kind.boxed:
            return []
        case _:
            order = kind.options if isinstance(kind, Choice) else ()
            counts = Counter(json.dumps(value) for value in seen)
            ranks = {json.dumps(name): rank for rank, name in enumerate(order)}
            return json.loads(min(counts, key=lambda text: (-counts[text], ranks.get(text, len(ranks)), text)))


class _WordTokenizer:
    """Splits text in any script; rouge_score's own tokenizer keeps only a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_WordTokenizer())
