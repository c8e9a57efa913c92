"""The gate passes what is as good on every slice, and refuses what is worse on one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets_vision.example import Example
from tests.cards import answered
from tests.forms import form_of
from tests.untrained import write_run
from vlm_ft.answers.kinds import Choice, Flag
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.data.cases import Case
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.recipe import Recipe
from vlm_ft.registry import Registry
from vlm_ft.review.gate import MIN_GROUPS, compare, compared

FORM = form_of(kind=Choice(options=("a", "b", "c")), passed=Flag())
CASES = [
    Case(Example(id=str(number)), {"kind": "abc"[number % 3] if number < 90 else "a", "passed": True})
    for number in range(96)
]


RIGHT = [answered(case.values) for case in CASES]


def spoiled(wrong: Callable[[Values], bool], field: str, value: object) -> list[Prediction]:
    return [answered({**case.values, field: value} if wrong(case.values) else case.values) for case in CASES]


def test_an_equal_adapter_passes() -> None:
    found = compared(FORM, CASES, RIGHT, RIGHT)
    assert found.passed
    assert [entry.name for entry in found.slices] == [
        "all",
        "class a",
        "class b",
        "class c",
        "field kind",
        "field passed",
    ]
    assert all(entry.difference == 0 for entry in found.slices)
    assert found.slices[0].count == 96
    assert [entry.count for entry in found.slices[1:4]] == [36, 30, 30]


def test_a_loss_on_one_class_is_refused_even_if_the_whole_improves() -> None:
    before = spoiled(lambda values: values["kind"] == "a", "passed", False)
    after = spoiled(lambda values: values["kind"] == "c", "passed", False)
    found = compared(FORM, CASES, before, after)
    assert found.slices[0].difference > 0
    assert [entry.name for entry in found.worse] == ["class c"]
    assert not found.passed


def test_the_margin_is_what_a_slice_may_lose() -> None:
    after = spoiled(lambda values: values["kind"] == "b", "passed", False)
    loss = {entry.name: -entry.difference for entry in compared(FORM, CASES, RIGHT, after).slices}
    assert loss["class b"] == pytest.approx(0.5)  # one of two fields
    assert compared(FORM, CASES, RIGHT, after, margin=0.51).passed
    assert not compared(FORM, CASES, RIGHT, after, margin=0.49).passed


def test_classes_with_few_examples_do_not_decide() -> None:
    for count, seen in ((MIN_GROUPS - 1, False), (MIN_GROUPS, True)):
        cases = CASES[:1] * 40 + CASES[2:3] * count  # of class a, and of class c
        cases = [replace(case, example=Example(id=str(place))) for place, case in enumerate(cases)]
        right = [answered(case.values) for case in cases]
        wrong = [answered({**case.values, "passed": case.values["kind"] != "c"}) for case in cases]
        found = compared(FORM, cases, right, wrong, margin=0.2)
        assert ("class c" in [entry.name for entry in found.slices]) is seen
        assert found.passed is not seen


def test_a_difference_that_chance_explains_does_not_decide() -> None:
    """Equally good adapters that err on different examples pass, though some slice is lower by more than the margin."""
    rng, refused, lower = np.random.default_rng(0), 0, 0
    for _ in range(40):
        before, after = ([answered({**case.values, "passed": rng.random() > 0.1}) for case in CASES] for _ in range(2))
        found = compared(FORM, CASES, before, after)
        lower += any(entry.difference < -found.margin for entry in found.slices)
        refused += not found.passed
    assert lower > 15
    assert refused < lower / 2


def test_examples_of_one_group_count_once() -> None:
    cases = [replace(case, example=replace(case.example, group="one")) for case in CASES]
    right = [answered(case.values) for case in cases]
    assert [entry.name for entry in compared(FORM, cases, right, right).slices] == ["all"]


def test_a_failed_answer_is_wrong() -> None:
    after = [Prediction.failed("broken"), *RIGHT[1:]]
    assert compared(FORM, CASES, RIGHT, after).slices[0].difference == pytest.approx(-1 / 96)


def test_runs_are_compared_on_examples_that_neither_was_trained_on(
    run_of: Callable[..., Path],
    untrained_run_of: Callable[..., Path],
    recipe_of: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    registry = Registry(tmp_path / "adapters")
    current = registry.add("parts", run_of("fast_vlm"))
    other = untrained_run_of("fast_vlm", splits={"seed": 1})
    with pytest.raises(DataError, match=r"version 1 was trained on \d of the \d test examples; set splits.like"):
        compare(current, other)
    write_run(recipe_of("fast_vlm", splits={"seed": 1, "like": str(current.folder)}), tmp_path / "next")
    found = compare(current, tmp_path / "next", margin=1.0)
    assert found.passed
    assert found.slices[0].count == 6
    one_field = untrained_run_of("fast_vlm", fields=["kind"])
    with pytest.raises(AdapterError, match="does not answer passed"):
        compare(current, one_field)
