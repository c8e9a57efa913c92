"""Properties of the figures, over every kind of field and every task."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score

from tests.cards import answered
from tests.forms import form_of
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.metrics import LOWER_IS_BETTER, Metric, case_score, iou, majority, match_items, measure, rouge_l
from vlm_ft.answers.observation import observed
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Task, Values
from vlm_ft.tasks import TASKS

NAMES = ("dent", "pit", "scratch")
FOUND = Items(
    fields=(FieldSpec(name="kind", kind=Choice(options=NAMES)), FieldSpec(name="box", kind=BoxKind())), max_items=4
)
NAMED = Items(fields=(FieldSpec(name="kind", kind=Choice(options=NAMES)),), max_items=4)


EVERY_KIND = form_of(
    kind=Choice(options=NAMES),
    passed=Flag(),
    count=Integer(minimum=0, maximum=9),
    gist=Text(max_length=60),
    place=BoxKind(),
    found=FOUND,
    names=NAMED,
)


def figure(metrics: tuple[Metric, ...], field: str, name: str) -> Metric:
    return next(metric for metric in metrics if (metric.field, metric.name) == (field, name))


def some_box(dice: random.Random) -> list[int]:
    left, top = dice.randrange(600), dice.randrange(600)
    return [left, top, left + dice.randrange(50, 400), top + dice.randrange(50, 400)]


def some_values(dice: random.Random) -> Values:
    found = [{"kind": dice.choice(NAMES), "box": some_box(dice)} for _ in range(dice.randrange(4))]
    return {
        "kind": dice.choice(NAMES),
        "passed": dice.random() < 0.5,
        "count": dice.randrange(10),
        "gist": " ".join(dice.choices(["one", "deep", "long", "mark"], k=4)),
        "place": some_box(dice),
        "found": found,
        "names": [{"kind": item["kind"]} for item in found],
    }


def some_rows(count: int) -> tuple[list[Values], list[Prediction]]:
    dice = random.Random(7)
    truths = [some_values(dice) for _ in range(count)]
    predictions = [
        Prediction.failed("no answer") if dice.random() < 0.1
        else answered(truth if dice.random() < 0.5 else some_values(dice))
        for truth in truths
    ]  # fmt: skip
    return truths, predictions


def task_rows(task: Task) -> tuple[Form, list[Values]]:
    sample = task.sample.model_dump(mode="json")
    empty = {name: [] for name, value in sample.items() if isinstance(value, list)}
    truths = [sample, {**sample, **empty}]
    return observed(task, truths), truths


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_perfect_answers_get_the_best_figures(task: Task) -> None:
    form, truths = task_rows(task)
    metrics = measure(form, truths, [answered(truth) for truth in truths])
    assert {metric.field for metric in metrics} == {"", *form.names}
    for metric in metrics:
        best = 0.0 if metric.name in LOWER_IS_BETTER else 1.0
        assert metric.value == best, metric
        assert metric.low < metric.high, metric  # two examples say little


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_failed_answers_get_no_credit(task: Task) -> None:
    form, truths = task_rows(task)
    metrics = measure(form, truths, [Prediction.failed("broken")] * len(truths))
    assert {metric.field for metric in metrics} == {"", *form.names}
    for metric in metrics:
        assert metric.value > 0 if metric.name in LOWER_IS_BETTER else metric.value == 0, metric


def test_every_kind_has_figures_and_perfect_answers_score_one() -> None:
    truths, _ = some_rows(30)
    metrics = measure(EVERY_KIND, truths, [answered(truth) for truth in truths])
    assert {metric.field for metric in metrics} == {"", *EVERY_KIND.names}
    assert all(metric.value == (metric.name not in LOWER_IS_BETTER) for metric in metrics)
    assert all(case_score(EVERY_KIND, truth, answered(truth)) == 1 for truth in truths)


def test_failures_are_wrong_even_if_there_is_nothing_to_find() -> None:
    metrics = measure(form_of(found=FOUND), [{"found": []}] * 3, [Prediction.failed("broken")] * 3)
    assert {metric.field for metric in metrics} == {"", "found"}
    assert {metric.value for metric in metrics} == {0}


def test_a_failed_number_gets_the_largest_error() -> None:
    form = form_of(count=Integer(minimum=0, maximum=9))
    predictions = [Prediction.failed("broken"), answered({"count": 5})]
    assert figure(measure(form, [{"count": 3}, {"count": 3}], predictions), "count", "mae").value == (6 + 2) / 2


def test_order_of_rows_does_not_matter() -> None:
    truths, predictions = some_rows(40)
    groups = [f"board {index % 9}" for index in range(40)]
    rows = list(zip(truths, predictions, groups, strict=True))
    random.Random(1).shuffle(rows)
    before = measure(EVERY_KIND, truths, predictions, groups)
    after = measure(EVERY_KIND, *(list(column) for column in zip(*rows, strict=True)))  # type: ignore[arg-type]
    for one, two in zip(before, after, strict=True):
        # ROUGE and IoU are summed in another order: float64 rounding
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-9)


def test_intervals_contain_their_values_and_narrow_with_data() -> None:
    few, many = (measure(EVERY_KIND, *some_rows(count)) for count in (20, 400))
    assert all(metric.low <= metric.value <= metric.high for metric in (*few, *many))
    assert all(b.high - b.low < a.high - a.low for a, b in zip(few, many, strict=True) if a.field)


def test_the_interval_of_a_share_is_binomial() -> None:
    truths: list[Values] = [{"passed": True}] * 100
    predictions = [answered({"passed": index < 80}) for index in range(100)]
    metric = figure(measure(form_of(passed=Flag()), truths, predictions), "passed", "accuracy")
    exact = binomtest(80, 100).proportion_ci(method="wilson")
    assert (metric.low, metric.high) == pytest.approx((exact.low, exact.high))


def test_copies_within_a_group_add_no_certainty() -> None:
    truths, predictions = some_rows(20)
    groups = [str(index) for index in range(20)]
    once = measure(EVERY_KIND, truths, predictions, groups)
    copied = measure(EVERY_KIND, truths * 5, predictions * 5, groups * 5)
    for one, five in zip(once, copied, strict=True):
        close = 0.05 if one.name.startswith("ap") else 1e-6  # COCO samples its curve at 101 recalls
        assert (one.low, one.high) == pytest.approx((five.low, five.high), abs=close)


def test_macro_f1_agrees_with_scikit_learn() -> None:
    truths, predictions = some_rows(60)
    true = [row["kind"] for row in truths]
    given = [entry.values.get("kind", "invalid") for entry in predictions]
    given[0] = "never seen"
    predictions[0] = answered({**truths[0], "kind": "never seen"})
    labels = sorted({*true, *given} - {"invalid"})
    expected = f1_score(true, given, labels=labels, average="macro", zero_division=0)
    metric = figure(measure(EVERY_KIND, truths, predictions), "kind", "macro_f1")
    assert metric.value == pytest.approx(expected)


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    truths: list[Values] = [{"passed": index < 15} for index in range(20)]
    answers: list[Values] = [{"passed": index % 4 > 0} for index in range(20)]
    predictions = [answered(values) for values in answers]
    true, given = [[int(row["passed"]) for row in rows] for rows in (truths, answers)]
    metric = figure(measure(form_of(passed=Flag()), truths, predictions), "passed", "balanced_accuracy")
    assert metric.value == pytest.approx(balanced_accuracy_score(true, given))
    assert metric.low < metric.value < metric.high
    predictions[1] = predictions[16] = Prediction.failed("cut off")  # wrong, whatever the truth
    given[1], given[16] = 1 - true[1], 1 - true[16]
    metric = figure(measure(form_of(passed=Flag()), truths, predictions), "passed", "balanced_accuracy")
    assert metric.value == pytest.approx(balanced_accuracy_score(true, given))


def test_unobserved_rows_are_left_out() -> None:
    form = form_of(kind=Choice(options=NAMES), passed=Flag(), count=Integer(minimum=0, maximum=9))
    truths: list[Values] = [{"kind": "dent"}, {"kind": "pit", "passed": True}]
    predictions = [answered({"kind": "dent", "passed": True, "count": 1})] * 2
    metrics = measure(form, truths, predictions)
    assert figure(metrics, "kind", "accuracy").count == 2
    assert figure(metrics, "passed", "accuracy").count == 1
    assert "count" not in {metric.field for metric in metrics}
    assert case_score(form, truths[1], predictions[1]) == 0.5


def test_items_match_once_by_name_and_overlap() -> None:
    big, shifted, far = [0, 0, 100, 100], [0, 0, 100, 60], [500, 500, 600, 600]
    truth: list[Values] = [{"kind": "dent", "box": big}, {"kind": "pit", "box": far}]
    answer: list[Values] = [
        {"kind": "dent", "box": shifted},
        {"kind": "dent", "box": big},
        {"kind": "scratch", "box": far},
    ]
    assert match_items(FOUND, truth, answer) == [(0, 1)]
    assert match_items(FOUND, truth, answer, named=False) == [(0, 1), (1, 2)]
    metrics = measure(form_of(found=FOUND), [{"found": truth}], [answered({"found": answer})])
    values = {metric.name: metric.value for metric in metrics if metric.field}
    expected = {"precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5, "localisation_f1": 4 / 5}
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_as_many_items_as_possible_are_matched() -> None:
    # greedy matching would pair the second truth with the first answer and leave one of each unmatched
    truth: list[Values] = [{"kind": "pit", "box": [0, 0, 100, 60]}, {"kind": "pit", "box": [0, 0, 100, 100]}]
    answer: list[Values] = [{"kind": "pit", "box": [0, 0, 100, 96]}, {"kind": "pit", "box": [0, 40, 100, 100]}]
    assert len(match_items(FOUND, truth, answer)) == 2


def test_items_without_boxes_are_a_multiset() -> None:
    truth = [{"kind": "dent"}, {"kind": "dent"}, {"kind": "pit"}]
    metrics = measure(
        form_of(names=NAMED), [{"names": truth}], [answered({"names": [{"kind": "pit"}, {"kind": "dent"}]})]
    )
    assert {m.name: m.value for m in metrics if m.field} == {"precision": 1, "recall": 2 / 3, "f1": 4 / 5}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0.0),
    ],
)
def test_overlap_is_intersection_over_union(left: list[int], right: list[int], expected: float) -> None:
    assert iou([left], [right])[0, 0] == pytest.approx(expected)


def test_rouge_handles_every_script() -> None:
    assert rouge_l("Трещина на крыле", "трещина на двери") == pytest.approx(2 / 3)
    assert rouge_l("", "") == 1
    assert rouge_l("one", "") == 0


@pytest.mark.parametrize(
    ("kind", "seen", "expected"),
    [
        (Choice(options=NAMES), ["pit", "dent", "pit", "dent"], "dent"),
        (Flag(), [True, False, True], True),
        (Integer(minimum=0, maximum=9), [1, 2, 9, 9], 2),
        (Text(max_length=9), ["b", "a", "b"], "b"),
        (FOUND, [[{"kind": "pit", "box": [0, 0, 1, 1]}]], []),
        (NAMED, [[{"kind": "pit"}], [], [{"kind": "pit"}]], [{"kind": "pit"}]),
    ],
)
def test_the_majority_is_the_most_common_value(kind: Kind, seen: list[Any], expected: Any) -> None:
    assert majority(form_of(it=kind), [*({"it": value} for value in seen), {}]) == {"it": expected}
    assert majority(form_of(it=kind), [{}]) == {}


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 truths, 0 predictions"):
        measure(EVERY_KIND, [{}], [])
    assert measure(EVERY_KIND, [], []) == ()


def test_500_rows_are_measured_quickly() -> None:
    truths, predictions = some_rows(500)
    form = EVERY_KIND.narrow(("kind", "passed", "gist", "found"))
    measure(form, truths[:2], predictions[:2])  # imports
    start = time.process_time()
    measure(form, truths, predictions)
    assert time.process_time() - start < 8  # most of it average precision, computed six times by its library
    assert np.isfinite([metric.high for metric in measure(form, truths, predictions)]).all()
