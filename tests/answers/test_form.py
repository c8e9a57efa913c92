"""A form asks for what its data label, round-trips every answer that fits, and says in one line what does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import create_model

from tests.forms import whole_form
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.form import Form, by_path
from vlm_ft.answers.kinds import Answer, BoxKind, Choice, Flag, Integer, Items, Text, fields_of
from vlm_ft.answers.task import Task, Values
from vlm_ft.errors import FormError
from vlm_ft.recipe import find_rate_card
from vlm_ft.tasks import TASKS

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=str)
EVERY_PATH = pytest.mark.parametrize(
    ("task", "path"), [(task, path) for task in TASKS.values() for path in sorted(by_path(task.fields))], ids=str
)

DEFECTS = TASKS["product_defects"]


def sample(task: Task) -> Values:
    return task.sample.model_dump(mode="json")


def objects_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and all schemas inside it."""
    yield schema
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from objects_in(inner)


@EVERY_TASK
def test_target_parses_back(task: Task) -> None:
    form = whole_form(task)
    assert form.parse(form.target(sample(task))) == sample(task)


@EVERY_TASK
def test_target_is_compact_and_in_the_order_of_the_form(task: Task) -> None:
    form = whole_form(task)
    shuffled = dict(reversed(sample(task).items()))
    assert form.target(shuffled) == form.target(sample(task)) == json.dumps(sample(task), separators=(",", ":"))


@EVERY_TASK
def test_schema_is_closed_ordered_and_bounded(task: Task) -> None:
    schema = whole_form(task).schema_of_answer
    assert list(schema["properties"]) == [field.name for field in task.fields]
    for part in objects_in(schema):
        match part.get("type"):
            case "object":
                assert part["additionalProperties"] is False
                assert part["required"] == list(part["properties"])
            case "array":
                assert part["maxItems"] > 0
            case "string":
                assert part["maxLength"] > 0
            case "integer":
                assert part["minimum"] < part["maximum"]
            case "boolean":
                pass
            case None:
                assert part["enum"]


@EVERY_PATH
def test_narrowing_to_a_path_asks_for_it_alone(task: Task, path: str) -> None:
    given = whole_form(task)
    open_paths = {each: ["a", "b"] for each in by_path(task.fields) if _kind(task, each) == Choice(options=())}
    form = Form.of(task, open_paths, [path])
    below = {known for known in by_path(task.fields) if known.startswith(path + ".")}
    assert by_path(form.fields).keys() == {path, *below} | ({path.split(".")[0]} if "." in path else set())
    narrow = given.narrow([path.split(".")[0]])
    assert narrow.names == (path.split(".")[0],)
    assert narrow.narrow(narrow.names) is narrow


def _kind(task: Task, path: str) -> object:
    name, _, part = path.partition(".")
    field = next(field for field in task.fields if field.name == name)
    if not part:
        return field.kind
    assert isinstance(field.kind, Items)
    return next(inner.kind for inner in field.kind.fields if inner.name == part)


@EVERY_TASK
def test_a_form_in_use_can_be_narrowed(task: Task) -> None:
    form = whole_form(task)
    form.check(sample(task))
    for name in form.names:
        values = {name: sample(task)[name]}
        assert form.narrow([name]).parse(json.dumps(values)) == values


@pytest.mark.parametrize(
    ("options", "only", "message"),
    [
        ({"knid": ["a"]}, None, "no field 'knid'; did you mean 'kind'?"),
        ({"kind": ["a"]}, ["findings.bxo"], "no field 'findings.bxo'; did you mean 'findings.box'?"),
        ({"findings.severity": ["mino"]}, None, "no option 'mino'; did you mean 'minor'?"),
        ({"passed": ["a"]}, None, "'passed' is not a choice"),
        ({"kind": ["a", "b", "a"]}, None, "lists 'a' twice"),
        ({}, ["kind"], "'kind' has no options"),
    ],
)
def test_an_impossible_form_is_reported_in_one_line(options: Any, only: Any, message: str) -> None:
    defaults = {"kind": ["a"], "findings.kind": ["a"]} if only is None else {}
    with pytest.raises(FormError) as error:
        Form.of(DEFECTS, {**defaults, **options}, only)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@EVERY_TASK
def test_json_keeps_the_whole_form(task: Task) -> None:
    form = whole_form(task)
    form.check(sample(task))
    kept = Form.model_validate_json(form.model_dump_json())
    assert kept == form
    assert (kept.prompt, kept.fingerprint) == (form.prompt, form.fingerprint)


@EVERY_TASK
def test_the_fingerprint_depends_on_prompt_and_options(task: Task) -> None:
    form = whole_form(task)
    reworded = form.model_copy(update={"instruction": form.instruction + " Look twice."})
    fewer = [form.narrow([name]) for name in form.names]
    changed = [form.fields[0].model_copy(update={"kind": Choice(options=("this", "that"))}), *form.fields[1:]]
    other = form.model_copy(update={"fields": tuple(changed)})
    prints = [each.fingerprint for each in (form, reworded, other, *fewer)]
    assert len(set(prints)) == len(prints)
    assert form.model_copy(update={"notice": "Said beside it."}).fingerprint == form.fingerprint


def misfits(form: Form, values: Values) -> Iterator[tuple[str, Values]]:
    """Every way to make one field of an answer invalid: the field's name, and the answer."""
    for field in form.fields:
        yield field.name, {name: value for name, value in values.items() if name != field.name}
        for wrong in _wrong(field.kind, values[field.name]):
            yield field.name, {**copy.deepcopy(values), field.name: wrong}
        if isinstance(field.kind, Items):
            row = values[field.name][0]
            inner = form.model_copy(update={"fields": field.kind.fields})
            for name, spoilt in misfits(inner, row):
                yield f"{field.name}.0.{name}", {**values, field.name: [spoilt]}


def _wrong(kind: object, value: Any) -> list[Any]:
    """Values of the wrong type, and outside the bounds."""
    match kind:
        case Choice():
            return [True, 1, None, "no such name", f"{value} "]
        case Flag():
            return ["true", 1, None, "yes\nno"]
        case Integer(minimum=low, maximum=high):
            return [low - 1, high + 1, "2", 2.0, True, None]
        case Text(max_length=length):
            return ["x" * (length + 1), 7, None]
        case BoxKind():
            outside, degenerate = [0, 0, 1, 1001], [[5, 5, 5, 9], [5, 9, 9, 5], [9, 5, 5, 9]]
            return [outside, [-1, 0, 5, 5], *degenerate, [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 4.5], "1,2,3,4"]
        case Items(max_items=most):
            return [value * (most + 1), value[0], "[]", None]
    raise AssertionError(kind)


@EVERY_TASK
def test_every_invalid_value_is_reported_with_its_field_in_one_line(task: Task) -> None:
    form = whole_form(task)
    for place, wrong in misfits(form, sample(task)):
        with pytest.raises(FormError) as error:
            form.parse(json.dumps(wrong))
        assert str(error.value).startswith(place), wrong
        assert "\n" not in str(error.value)


@EVERY_TASK
def test_an_extra_key_is_named(task: Task) -> None:
    form = whole_form(task)
    for extra in ("colour", "two\nlines"):
        with pytest.raises(FormError, match=r"colour|two lines") as error:
            form.parse(json.dumps({**sample(task), extra: 1}))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "I see a pit.", '{"kind":', "[]", "null", "9" * 5000, "[" * 100_000, '{"a":NaN}'])
def test_text_that_is_not_an_answer_is_reported(text: str) -> None:
    with pytest.raises(FormError) as error:
        whole_form(DEFECTS).parse(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_an_incomplete_target_is_refused() -> None:
    with pytest.raises(FormError, match="answer: lacks kind, findings"):
        whole_form(DEFECTS).target({"passed": True})


def test_a_form_derives_what_its_fields_allow() -> None:
    task = TASKS["aviation_maintenance"]
    whole = Form.of(task, {"kind": ["dent", "none"], "cause": ["fatigue"]}, ["kind", "cause"])
    assert [entry.kind for entry in whole.derivations] == ["priority"]
    assert whole.derive({"kind": "dent"})["priority"]["priority"] == "next_check"
    assert whole.derive({"kind": "none"})["priority"]["priority"] == "nothing_found"
    assert whole.derive({"cause": "fatigue"}) == {}
    assert Form.of(task, {"cause": ["fatigue"]}, ["cause"]).derivations == ()


def test_derivations_keep_the_fingerprint_and_survive_the_round_trip() -> None:
    card = read_rate_card(find_rate_card("example_eur"))
    asked = Form.of(TASKS["car_damage"], {"findings.part": ["door"], "findings.kind": ["dent"]}, ["findings"])
    priced = asked.with_derivation(card)
    assert priced.fingerprint == asked.fingerprint
    values = {"findings": [{"part": "door", "kind": "dent", "severity": "minor", "box": [0, 0, 9, 9], "photo": 1}]}
    derived = priced.derive(values)
    read = Form.model_validate_json(priced.model_dump_json())
    assert read == priced
    assert read.derive(values) == derived != {}
    assert asked.derive(values) == {}
    other = card.model_copy(update={"name": "other"})
    assert [entry.name for entry in priced.with_derivation(other).derivations] == ["other"]


def test_a_form_without_findings_has_no_estimate() -> None:
    form = Form.of(TASKS["car_damage"], only=["severity"])
    with pytest.raises(
        FormError, match=r"estimate example_eur: the form lists no findings by kind \(it asks for severity\)"
    ):
        form.with_derivation(read_rate_card(find_rate_card("example_eur")))


@pytest.mark.parametrize(
    "annotation", [float, list, list[int], list[Literal["a"]], Literal[1, 2], bool | None], ids=str
)
def test_an_annotation_that_is_not_a_field_type_is_named(annotation: Any) -> None:
    answer = create_model("Weld", __base__=Answer, seam=(annotation, ...))
    with pytest.raises(FormError, match=r"^Weld\.seam: .* is not a supported field type; use bool, Literal"):
        fields_of(answer)
