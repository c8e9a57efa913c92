"""The gate passes what is as good on every slice, and refuses what is worse on one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datasets_vision.example import Example
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Values
from vlm_ft.data.cases import Case
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.recipe import Recipe
from vlm_ft.registry import Registry
from vlm_ft.review.gate import compare, compared
from vlm_ft.training.run import train

FORM = Form(
    task="made",
    title="Made",
    instruction="Inspect it.",
    fields=(FieldSpec(name="kind", kind=Choice(options=("a", "b", "c"))), FieldSpec(name="passed", kind=Flag())),
)
CASES = [
    Case(Example(id=str(number)), {"kind": "abc"[number % 3] if number < 90 else "a", "passed": True})
    for number in range(96)
]


def answered(values: Values) -> Prediction:
    return Prediction(fields={name: FieldValue(value) for name, value in values.items()})


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


def test_small_classes_do_not_decide() -> None:
    cases = [*CASES[:20], Case(Example(id="rare"), {"kind": "c", "passed": True})][:21]
    few = [case for case in cases if case.values["kind"] != "c"][:14] + cases[-1:]
    after = [answered({**case.values, "passed": case.values["kind"] != "c"}) for case in few]
    names = [entry.name for entry in compared(FORM, few, [answered(case.values) for case in few], after, 0.1).slices]
    assert "class c" not in names


def test_a_failed_answer_is_wrong() -> None:
    after = [Prediction.failed("broken"), *RIGHT[1:]]
    assert compared(FORM, CASES, RIGHT, after).slices[0].difference == pytest.approx(-1 / 96)


def test_runs_are_compared_on_examples_that_neither_knows(
    run_of: Callable[..., Path], recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "adapters")
    current = registry.add("parts", run_of("fast_vlm"))
    other = run_of("fast_vlm", splits={"seed": 1})
    with pytest.raises(DataError, match=r"version 1 has learned from \d of the \d test examples; set splits.like"):
        compare(current, other)
    follows = recipe_of("fast_vlm", splits={"seed": 1, "like": str(current.folder)})
    train(follows, tmp_path / "next")
    found = compare(current, tmp_path / "next", margin=1.0)
    assert found.passed
    assert found.slices[0].count == 6
    one_field = run_of("fast_vlm", fields=["kind"])
    with pytest.raises(AdapterError, match="does not answer passed"):
        compare(current, one_field)
