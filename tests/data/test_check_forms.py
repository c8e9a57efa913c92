"""The form that the checks observe of the data, and how long its rows are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_vision.example import Turn
from tests.data.made_sets import (
    SIDE,
    boxed,
    photos,
    rows,
    texts,
)
from vlm_ft.answers.form import Form
from vlm_ft.bases.reader import open_reader
from vlm_ft.conversation import Conversation, Row
from vlm_ft.data.cases import load
from vlm_ft.data.checks import check
from vlm_ft.data.checks.gather import Witnesses
from vlm_ft.errors import DataError, FormError
from vlm_ft.lengths import Ruler
from vlm_ft.tasks import TASKS


def values_of() -> Iterator[list[dict[str, Any]]]:
    random = np.random.default_rng(1)
    for _ in range(40):
        answers: list[dict[str, Any]] = []
        for _ in range(30):
            values: dict[str, Any] = {}
            if random.random() < 0.7:
                values["kind"] = f"k{random.integers(4)}"
            if random.random() < 0.2:
                values["passed"] = bool(random.integers(2))
            if random.random() < 0.5:
                row = {"kind": f"f{random.integers(5)}", "severity": "minor", "box": [1, 2, 3, 4]}
                for name in ("severity", "box"):
                    if random.random() < 0.05:
                        del row[name]
                values["findings"] = [row] * int(random.integers(3))
            answers.append(values)
        yield answers


def test_the_form_of_the_witnesses_is_the_form_of_all() -> None:
    task = TASKS["product_defects"]
    for answers in values_of():
        witnesses = Witnesses(task)
        for values in answers:
            witnesses.add(values, "here")
        assert Form.observed(task, witnesses.values) == Form.observed(task, answers)
        assert len(witnesses.values) < len(answers)


def test_a_column_of_free_text_is_no_choice(tmp_path: Path) -> None:
    made = texts(tmp_path / "set")
    rows("train.csv", *(f"Text {n}.,clause {n},q" for n in range(3000)))(tmp_path / "set")
    with pytest.raises(DataError, match="clause_type has more than 2000 names") as error:
        check(made)
    assert "\n" not in str(error.value)


def test_labels_that_answer_nothing_are_told(tmp_path: Path) -> None:
    made = photos(tmp_path / "set").model_copy(update={"task": "legal_documents", "fields": ("risk",)})
    with pytest.raises(FormError, match="risk"):
        check(made)


@pytest.mark.parametrize("text", ["Look at <image> this.", ""])
@pytest.mark.parametrize("name", ["qwen3_vl", "smolvlm", "internvl", "llava_onevision", "llama"])
def test_a_row_is_as_long_as_training_will_find_it(
    name: str, text: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Without the weights, and with blank pictures of the same size."""
    made = boxed(tmp_path / "set").model_copy(update={"base": str(tiny_folder(name))})
    reader = open_reader(made.base)
    ruler = Ruler(reader)
    case = load(made).cases["train"][0]
    form = load(made).form.narrow(case.values)
    turns, target = (Turn("user", text),) if text else (), form.target(case.values)
    images = case.example.images if reader.sees else ()
    expected = Conversation(reader).lengths(Row(form, turns, images, target))
    assert ruler.lengths(form, turns, [(SIDE, SIDE)], target) == (expected if reader.sees else (expected[0], 0))
    assert ruler.limit == reader.max_length
    assert (ruler.most_pixels is None) == (not reader.sees)
