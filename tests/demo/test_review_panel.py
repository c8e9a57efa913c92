"""What the review panel shows can be stored unchanged, for every task, and a bad cell is named."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest
from vlm_ft.demo.review_panel import NO, YES, _cells, _values, _widget

from tests.demo.conftest import card_of
from vlm_ft.answers.kinds import FieldSpec, Items
from vlm_ft.answers.task import Task
from vlm_ft.errors import FormError
from vlm_ft.tasks import TASKS

LISTS = [field for task in TASKS.values() for field in card_of(task).form.fields if isinstance(field.kind, Items)]


def shown(task: Task) -> tuple[Any, list[Any]]:
    """The card of a task, and what the browser would send back for the widgets of its sample."""
    card, values = card_of(task), task.sample.model_dump(mode="json")
    given = []
    with gr.Blocks():
        for field in card.form.fields:
            widget = _widget(field, values[field.name])
            value = widget.value
            given.append(value["data"] if isinstance(value, dict) else value)
    return card, given


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_what_is_shown_is_the_answer(task: Task) -> None:
    card, given = shown(task)
    assert card.form.check(_values(card, given)) == task.sample.model_dump(mode="json")


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.list_field], ids=str)
def test_an_emptied_row_is_removed(task: Task) -> None:
    card, given = shown(task)
    place = card.form.names.index(task.list_field)
    given[place] = [[" " for _ in row] for row in given[place]]
    assert _values(card, given)[task.list_field] == []


def test_a_cell_that_is_not_a_number_is_named() -> None:
    card, given = shown(TASKS["product_defects"])
    place = card.form.names.index("findings")
    kind = card.form.fields[place].kind
    assert isinstance(kind, Items)
    given[place][0][_cells(kind, {"box": [1, 2, 3, 4]}).index(0.1)] = "wide"
    with pytest.raises(FormError, match="findings: box: 'wide' is not a number; correct it"):
        _values(card, given)


def test_flags_are_words() -> None:
    task = TASKS["car_damage"]
    card, given = shown(task)
    place = next(at for at, value in enumerate(given) if value in (YES, NO))
    given[place] = YES if given[place] == NO else NO
    name = card.form.names[place]
    assert _values(card, given)[name] is (not task.sample.model_dump(mode="json")[name])


@pytest.mark.parametrize("field", LISTS, ids=lambda field: field.name)
def test_a_row_has_a_cell_for_each_heading(field: FieldSpec) -> None:
    assert len(_widget(field, []).headers) == len(_cells(field.kind, {})) > 0
