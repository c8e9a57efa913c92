"""Logistic regression for every choice and flag: on the features of a frozen tower, and on the words of a text.

scikit-learn, which takes a second to import, is imported where it is used: the app only shows evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from datasets_vision.example import Example, text_of
from vlm_ft.answers.kinds import Choice, Flag
from vlm_ft.answers.prediction import FieldValue, option_name
from vlm_ft.data.cases import Case
from vlm_ft.evaluation.rivals.rival_data import Attempt, RivalData, tfidf, with_words

PROBE_C = (0.01, 0.001, 0.1)
WORDS_C = (10.0, 1.0, 100.0)
"""Inverse regularization strengths; the first is used if there are no `tune` examples to choose with."""

Encode = Callable[[Iterable[Example]], list[Any]]
"""Examples to rows of features, None for an example without the input."""


def probe(data: RivalData) -> Attempt | None:
    """Classify the first image by the frozen tower's features: mean and maximum over positions."""
    from sklearn.preprocessing import StandardScaler

    tower = data.tower
    if tower is None:
        return None

    def encode(examples: Iterable[Example]) -> list[Any]:
        listed = list(examples)
        seen = [example.images[0] for example in listed if example.images]
        rows = iter(tower.pooled(seen) if seen else ())
        return [next(rows) if example.images else None for example in listed]

    return _classified(data, encode, StandardScaler, PROBE_C)


def words(data: RivalData) -> Attempt | None:
    """Classify the text by TF-IDF (`tfidf`)."""
    if not _closed(data):
        return None

    def encode(examples: Iterable[Example]) -> list[Any]:
        return [text_of(example.turns) or None for example in examples]

    return _classified(replace(data, train=with_words(data.train)), encode, tfidf, WORDS_C)


def _classified(
    data: RivalData, encode: Encode, features: Callable[[], Any], strengths: Sequence[float]
) -> Attempt | None:
    fields = _closed(data)
    train = encode(case.example for case in data.train) if fields else []
    if all(row is None for row in train):
        return None
    tune, test = encode(case.example for case in data.tune), encode(data.test)
    columns: dict[str, list[Any]] = {}
    settings = []
    for name in fields:
        rows, labels = _labelled(train, data.train, name)
        if rows:
            model, chosen = _chosen(rows, labels, *_labelled(tune, data.tune, name), features, strengths)
            columns[name] = _predicted(model, test)
            settings.append(f"{name}: {chosen}")
    return Attempt.of(data.form, columns, "; ".join(settings))


def _closed(data: RivalData) -> list[str]:
    """The fields to classify."""
    return [field.name for field in data.form.fields if isinstance(field.kind, Choice | Flag)]


def _labelled(rows: Sequence[Any], cases: Sequence[Case], name: str) -> tuple[list[Any], list[Any]]:
    """The rows and labels of the cases that have both."""
    pairs = zip(rows, cases, strict=True)
    found = [(row, case.values[name]) for row, case in pairs if row is not None and name in case.values]
    return [row for row, _ in found], [label for _, label in found]


def _chosen(
    rows: list[Any],
    labels: list[Any],
    tune_rows: list[Any],
    tune_labels: list[Any],
    features: Callable[[], Any],
    strengths: Sequence[float],
) -> tuple[Any, str]:
    """The model with the best macro-F1 on `tune`, over regularization strengths and class weights, and its settings."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline

    if len(set(labels)) == 1:
        return DummyClassifier().fit(rows, labels), "one class only"
    best: tuple[float, Any, str] | None = None
    for weight, strength in product((None, "balanced"), strengths):
        model = make_pipeline(features(), LogisticRegression(C=strength, class_weight=weight, max_iter=500))
        model.fit(rows, labels)
        chosen = f"C={strength:g}, {weight or 'equal'} class weights"
        if not tune_rows:
            return model, chosen
        reached = float(f1_score(tune_labels, model.predict(tune_rows), average="macro", zero_division=0))
        if best is None or reached > best[0]:
            best = reached, model, chosen
    assert best is not None
    return best[1:]


def _predicted(model: Any, rows: Sequence[Any]) -> list[FieldValue | None]:
    """The most probable class of each row, and the probabilities of all."""
    given = [row for row in rows if row is not None]
    shares = model.predict_proba(given) if given else ()
    classes = np.asarray(model.classes_).tolist()
    names = [option_name(label) for label in classes]
    found = (FieldValue(classes[int(row.argmax())], dict(zip(names, row.tolist(), strict=True))) for row in shares)
    return [None if row is None else next(found) for row in rows]
