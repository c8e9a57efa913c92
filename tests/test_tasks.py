"""Every task is complete, leaves unlabelled fields unobserved, and a user's own file works like a shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets_vision.example import Label, LabelledObject
from tests.forms import whole_form
from vlm_ft.answers.kinds import FieldSpec, Items, Text
from vlm_ft.answers.observation import observed
from vlm_ft.answers.task import Task
from vlm_ft.errors import RecipeError
from vlm_ft.tasks import TASKS, task_of

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=str)


@EVERY_TASK
def test_a_task_is_complete(task: Task) -> None:
    assert TASKS[task.name] is task
    assert task.title
    assert task.instruction.endswith(".")
    assert type(task.sample) is task.answer


@EVERY_TASK
def test_free_text_follows_the_closed_fields(task: Task) -> None:
    texts = [isinstance(field.kind, Text) for field in task.fields]
    assert texts == sorted(texts)


@EVERY_TASK
def test_an_empty_label_leaves_every_field_unobserved(task: Task) -> None:
    assert task.values(Label()) == {}


@EVERY_TASK
def test_a_column_named_like_a_field_gives_its_value(task: Task) -> None:
    sample = task.sample.model_dump(mode="json")
    assert task.values(Label(columns={**sample, "no field": 1})) == sample


@EVERY_TASK
def test_a_target_parses_back(task: Task) -> None:
    form, values = whole_form(task), task.sample.model_dump(mode="json")
    assert form.names == tuple(type(task.sample).model_fields)
    assert form.parse(form.target(values)) == values


@EVERY_TASK
def test_every_label_fits_the_form_that_it_fills(task: Task) -> None:
    boxes = [(0, 0, 10, 10), (5, 5, 900, 900), (5, 5, 900, 900)]
    objects = tuple(LabelledObject(name, box) for name, box in zip(("pit", "rust", "pit"), boxes, strict=True))
    labels = [Label(image_class="pit"), Label(image_class="none"), Label(objects=()), Label(objects=objects * 20)]
    answers = [values for label in labels if (values := task.values(label))]
    if not answers:
        pytest.skip("reads columns only")
    form = observed(task, answers)
    for values in answers:
        asked = form.narrow(values)
        kept = {name: values[name] for name in asked.names}
        assert asked.parse(asked.target(kept)) == kept


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (task, field)
        for task in TASKS.values()
        for field in task.fields
        if isinstance(field.kind, Items) and field.kind.boxed
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_items_are_sorted_by_size_and_limited(task: Task, field: FieldSpec) -> None:
    assert isinstance(field.kind, Items)
    things = tuple(LabelledObject(str(side), (0, 0, side, side)) for side in range(1, field.kind.max_items + 6))
    rows = task.listed(field.name, things)
    sides = [row["box"][2] for row in rows]
    assert len(rows) == field.kind.max_items
    assert sides == sorted(sides, reverse=True)
    assert rows == task.listed(field.name, tuple(reversed(things)))


def test_there_are_eleven_tasks() -> None:
    assert len(TASKS) == 11


@pytest.mark.parametrize(
    ("task", "label", "values"),
    [
        ("car_damage", Label(image_class="severe"), {"severity": "severe", "damaged": True}),
        ("car_damage", Label(image_class="none"), {"kind": "none", "damaged": False}),
        ("car_damage", Label(objects=()), {"findings": [], "kind": "none", "damaged": False}),
        ("scan_abnormalities", Label(image_class="none"), {"kind": "none", "abnormal": False}),
        ("aviation_maintenance", Label(image_class="dent"), {"kind": "dent"}),
        ("technical_diagnosis", Label(objects=(LabelledObject("pit", (0, 0, 9, 9)),)), {}),
        ("technical_diagnosis", Label(objects=()), {"mentions": []}),
        (
            "technical_diagnosis",
            Label(objects=(LabelledObject("part", attributes={"text": "oil pump", "start": 0, "end": 8}),)),
            {"mentions": [{"type": "part", "text": "oil pump"}]},
        ),
        ("customer_chatbot", Label(columns={"chosen": "Yes.", "rejected": "No."}), {"reply": "Yes."}),
        ("industry_language", Label(columns={"completion": "Yes.", "liked": True}), {"reply": "Yes."}),
        ("industry_language", Label(columns={"completion": "Yes.", "liked": False}), {}),
        ("scientific_research", Label(columns={"chosen": "Yes.", "rejected": "No."}), {"summary": "Yes."}),
    ],
)
def test_a_label_gives_the_values_that_it_states(task: str, label: Label, values: dict[str, object]) -> None:
    assert TASKS[task].values(label) == values


@EVERY_TASK
def test_the_main_kind_is_that_of_the_largest_object(task: Task) -> None:
    if "largest" not in task.follows.values():
        pytest.skip("has no main kind")
    objects = tuple(
        LabelledObject(name, (0, 0, side, side), {"part": "door"}) for name, side in (("pit", 9), ("dent", 90))
    )
    assert task.values(Label(objects=objects))["kind"] == "dent"


def test_findings_name_their_photo() -> None:
    objects = (
        LabelledObject("dent", (0, 0, 9, 9), {"part": "door", "photo": 2, "side": "left"}),
        LabelledObject("scratch", (0, 0, 90, 90), {"part": "hood", "photo": 1}),
    )
    assert TASKS["car_damage"].values(Label(objects=objects))["findings"] == [
        {"part": "hood", "kind": "scratch", "box": [0, 0, 90, 90], "photo": 1},
        {"part": "door", "kind": "dent", "box": [0, 0, 9, 9], "photo": 2},
    ]


def test_damage_on_none_of_the_labelled_parts_is_on_another_part() -> None:
    objects = tuple(LabelledObject("dent", (0, 0, 9, 9), attributes) for attributes in ({"part": None}, {}))
    rows = TASKS["car_damage"].values(Label(objects=objects))["findings"]
    assert [row.get("part") for row in rows] == ["other", None]


def test_a_custom_task_file_works_like_a_shipped_task(own_task: Path) -> None:
    task = task_of("my_task", own_task)
    assert task.values(Label(objects=())) == {"verdict": "good"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("my_task", None, "no such file"),
        ("my_task", "import nowhere_to_be_found", "ModuleNotFoundError"),
        ("my_task", "TASK = (", "SyntaxError"),
        ("my_task", "TASK = 3", "defines no TASK"),
    ],
)
def test_an_unusable_task_file_is_reported_in_one_line(
    name: str, text: str | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "my_task.py"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message) as error:
        task_of(name, file)
    assert str(error.value).startswith(f"task file {file}:")
    assert "\n" not in str(error.value)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(RecipeError, match="unknown task 'product_defect'; did you mean 'product_defects'"):
        task_of("product_defect")


def test_a_custom_task_file_with_another_name_is_refused(own_task: Path) -> None:
    with pytest.raises(RecipeError, match="defines 'my_task', but the recipe says task: other"):
        task_of("other", own_task)
