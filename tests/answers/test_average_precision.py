"""Average precision rewards lists whose most certain items are right; its interval does not depend on row order."""

from __future__ import annotations

import pytest
from numpy.random import default_rng

from vlm_ft.answers.average_precision import average_precisions
from vlm_ft.answers.intervals import clusters_of
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Items
from vlm_ft.answers.prediction import FieldValue, Item

KIND = Items(
    fields=(FieldSpec(name="kind", kind=Choice(options=("dent", "pit"))), FieldSpec(name="box", kind=BoxKind())),
    max_items=4,
)
HERE, THERE = [0, 0, 100, 100], [500, 500, 600, 600]


def found(*items: tuple[str, list[int], float]) -> FieldValue:
    """A list with these names, boxes and probabilities."""
    values = [{"kind": kind, "box": box} for kind, box, _ in items]
    parts = [
        Item(score, {name: FieldValue(part) for name, part in value.items()})
        for value, (*_, score) in zip(values, items, strict=True)
    ]
    return FieldValue(values, items=tuple(parts))


def ap50(truth: list[tuple[str, list[int]]], answer: FieldValue | None) -> float:
    items = [{"kind": kind, "box": box} for kind, box in truth]
    return average_precisions(KIND, [items], [answer], clusters_of([""]))["ap50"].value


def test_the_rank_of_the_correct_items_counts() -> None:
    truth = [("dent", HERE)]
    assert ap50(truth, found(("dent", HERE, 0.9))) == pytest.approx(1)
    assert ap50(truth, found(("dent", HERE, 0.9), ("dent", THERE, 0.2))) == pytest.approx(1)
    assert ap50(truth, found(("dent", HERE, 0.2), ("dent", THERE, 0.9))) == pytest.approx(0.5)
    assert ap50(truth, found(("pit", HERE, 0.9))) == 0
    assert ap50(truth, FieldValue([{"kind": "dent", "box": HERE}])) == pytest.approx(1)
    assert ap50(truth, None) == 0


def test_without_true_items_there_is_no_average_precision() -> None:
    assert average_precisions(KIND, [[], []], [found(), None], clusters_of(["", ""])) == {}


def test_the_order_of_rows_changes_nothing() -> None:
    random = default_rng(0)
    truths = [[{"kind": "dent", "box": [0, 0, 100 + place, 100]}] for place in range(24)]
    answers = [found(("dent" if random.random() < 0.7 else "pit", HERE, float(random.random()))) for _ in truths]
    groups = [f"part {place // 2}" for place in range(24)]
    plain = average_precisions(KIND, truths, answers, clusters_of(groups))
    order = random.permutation(24)
    mixed = average_precisions(
        KIND, [truths[at] for at in order], [answers[at] for at in order], clusters_of([groups[at] for at in order])
    )
    for name, figure in plain.items():
        assert dict(mixed[name]) == pytest.approx(dict(figure))
        assert figure.low < figure.value < figure.high
    assert plain["ap50"].high - plain["ap50"].low < 0.6
