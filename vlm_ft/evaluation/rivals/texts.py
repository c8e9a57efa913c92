"""Rivals that copy: the most common answer, the nearest reply, the first line."""

from __future__ import annotations

from typing import Any

from datasets_vision.example import text_of
from vlm_ft.answers import metrics
from vlm_ft.answers.kinds import Text
from vlm_ft.evaluation.rivals.rival_data import Attempt, RivalData, tfidf, with_words


def majority(data: RivalData) -> Attempt | None:
    """The most common value of every field (`metrics.majority`)."""
    values = metrics.majority(data.form, [case.values for case in data.train])
    return Attempt.of(data.form, {name: [value] * len(data.test) for name, value in values.items()})


def neighbour(data: RivalData) -> Attempt | None:
    """For every free-text field, the text of the training example with the most similar input (cosine of TF-IDF)."""
    from sklearn.metrics import pairwise_distances_argmin

    free = _free(data)
    cases = with_words(data.train) if free else []
    columns: dict[str, list[Any]] = {}
    for name in free:
        known = [case for case in cases if name in case.values]
        if not known:
            continue
        vectorizer = tfidf()
        train = vectorizer.fit_transform([text_of(case.example.turns) for case in known])
        test = vectorizer.transform([text_of(example.turns) for example in data.test])
        nearest = pairwise_distances_argmin(test, train, metric="cosine").tolist()
        columns[name] = [
            known[place].values[name] if text_of(example.turns) else None
            for place, example in zip(nearest, data.test, strict=True)
        ]
    return Attempt.of(data.form, columns)


def first_line(data: RivalData) -> Attempt | None:
    """For every free-text field, the first line of the input, cut to the field's length.

    None if no input has more than one line.
    """
    lines = [text_of(example.turns).strip().splitlines() for example in data.test]
    if not any(len(found) > 1 for found in lines):
        return None
    free = _free(data).items()
    return Attempt.of(data.form, {name: [found[0][:most] if found else None for found in lines] for name, most in free})


def _free(data: RivalData) -> dict[str, int]:
    """The form's free-text fields -> the most characters of each."""
    return {field.name: field.kind.max_length for field in data.form.fields if isinstance(field.kind, Text)}
