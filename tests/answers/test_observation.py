"""A form asks for what every source labels, with the names in use, and notes say what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from vlm_ft.answers.form import Form, by_path
from vlm_ft.answers.kinds import Choice, Items
from vlm_ft.answers.observation import MAX_NAMES, Observation, observed
from vlm_ft.answers.task import Task, Values
from vlm_ft.errors import FormError
from vlm_ft.tasks import TASKS

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=str)
DEFECTS = TASKS["product_defects"]
WHOLE = {"kind": "pit", "severity": "minor", "box": [1, 2, 3, 4]}
LACKING = {"kind": "pit", "severity": "minor"}


def sample(task: Task) -> Values:
    return task.sample.model_dump(mode="json")


def of_sources(sources: Mapping[str, Sequence[Values]], only: Sequence[str] | None = None) -> tuple[Form, list[str]]:
    """The form that several sources fill, and the notes."""
    observation = Observation(DEFECTS)
    for source, answers in sources.items():
        for values in answers:
            observation.add(values, source)
    form = observation.form(only=only)
    return form, list(observation.notes(form, only))


def test_fields_that_one_source_lacks_are_not_asked_for() -> None:
    kinds, passes = {"kind": "pit", "passed": False}, {"passed": True}
    form, notes = of_sources({"a": [kinds] * 9, "b": [passes] * 3})
    assert form.names == ("passed",)
    assert notes == ["kind: 3 of 3 examples of b lack it, so it is not asked for; label it there to include it"]


def test_sources_with_no_field_in_common_are_refused() -> None:
    with pytest.raises(FormError, match="no field is labelled in every source; label the same fields in each"):
        of_sources({"a": [{"kind": "pit"}], "b": [{"passed": True}]})


@pytest.mark.parametrize("path", ["findings", "findings.box"])
def test_asking_for_a_field_that_a_source_lacks_is_an_error(path: str) -> None:
    with pytest.raises(FormError, match=f"fields: '{path}' is asked for, but no label of b states it") as error:
        of_sources({"a": [{"findings": [WHOLE], "kind": "pit"}], "b": [{"kind": "pit"}]}, only=[path, "kind"])
    assert "\n" not in str(error.value)


def test_asking_for_a_part_that_an_item_lacks_is_an_error() -> None:
    with pytest.raises(FormError, match=r"'findings\.box' is asked for, but 1 of 2 items of b lack it"):
        of_sources({"a": [{"findings": [WHOLE]}], "b": [{"findings": [WHOLE, LACKING]}]}, only=["findings.box"])


@pytest.mark.parametrize("left", ["severity", "box"])
@pytest.mark.parametrize("only", [None, ["findings"]])
def test_a_part_that_an_item_lacks_is_left_out_with_a_note(left: str, only: list[str] | None) -> None:
    lacking = {name: value for name, value in WHOLE.items() if name != left}
    form, notes = of_sources({"": [{"findings": [WHOLE, lacking]}, {"findings": []}]}, only)
    assert by_path(form.fields).keys() == {"findings", *(f"findings.{name}" for name in lacking)}
    assert notes == [f"findings.{left}: 1 of 2 items lack it, so it is not asked for; label it there to include it"]


@pytest.mark.parametrize(("lacking", "asked"), [(0, True), (4, True), (5, True), (6, False), (9, False)])
def test_a_rarely_labelled_field_is_asked_for_only_if_listed(lacking: int, asked: bool) -> None:
    whole, part = {"passed": False, "kind": "pit"}, {"passed": True}
    answers = {"": [whole] * (10 - lacking) + [part] * lacking}
    form, notes = of_sources(answers)
    assert ("kind" in form.names) == asked
    note = f"kind: {lacking} of 10 examples lack it, so it is not asked for; list it under fields to include it anyway"
    assert notes == ([] if asked else [note])
    form, notes = of_sources(answers, ["passed", "kind"])
    assert (form.names, notes) == (("passed", "kind"), [])


def test_a_field_that_is_not_asked_for_gets_no_note() -> None:
    assert of_sources({"a": [{"kind": "pit", "passed": False}], "b": [{"passed": True}]}, ["passed"])[1] == []


def test_examples_that_state_nothing_do_not_count() -> None:
    form, notes = of_sources({"a": [{"kind": "pit"}] + [{}] * 9, "b": [{}] * 5})
    assert (form.names, notes) == (("kind",), [])


def test_a_choice_with_thousands_of_names_is_refused() -> None:
    answers = [{"kind": f"k{number}", "passed": False} for number in range(MAX_NAMES + 1)]
    with pytest.raises(FormError, match=f"kind: more than {MAX_NAMES} names; is that column free text"):
        observed(DEFECTS, answers)
    assert observed(DEFECTS, answers, only=["passed"]).names == ("passed",)
    assert observed(DEFECTS, answers, {"kind": ["k1", "k2"]}).field("kind").kind == Choice(options=("k1", "k2"))


@pytest.mark.parametrize("value", [["pit"], "pit", 3, [None]])
def test_a_malformed_list_is_left_to_the_check_of_labels(value: object) -> None:
    assert observed(DEFECTS, [{"kind": "pit", "findings": value}]).names == ("kind",)


@EVERY_TASK
def test_observed_leaves_out_fields_that_no_answer_states(task: Task) -> None:
    for left in sample(task):
        answers = [{name: value for name, value in sample(task).items() if name != left}]
        form = observed(task, answers)
        assert form.names == tuple(name for name in sample(task) if name != left)
        assert form.parse(form.target(answers[0])) == answers[0]


def test_observed_options_are_the_names_in_use() -> None:
    answers = [{"kind": "pit"}, {"kind": "crack", "passed": False}, {"passed": True}]
    form = observed(DEFECTS, answers)
    assert form.names == ("passed", "kind")
    assert form.field("kind").kind == Choice(options=("crack", "pit"))


def test_labels_override_the_names_in_use() -> None:
    form = observed(DEFECTS, [{"kind": "pit"}], {"kind": ["pit", "dent", "burr"]})
    assert form.field("kind").kind == Choice(options=("pit", "dent", "burr"))


def test_a_closed_scale_keeps_its_own_order() -> None:
    findings = [{"kind": "pit", "severity": severity} for severity in ("critical", "minor")]
    kind = observed(DEFECTS, [{"findings": findings}]).field("findings").kind
    assert isinstance(kind, Items)
    assert kind.fields[1].kind == Choice(options=("minor", "critical"))


def test_observed_refuses_fields_that_no_label_states() -> None:
    with pytest.raises(FormError, match="label none of its fields"):
        observed(DEFECTS, [{}])
    with pytest.raises(FormError, match="fields: 'findings' is asked for, but no label states it"):
        observed(DEFECTS, [{"kind": "pit"}], only=["findings"])
    with pytest.raises(FormError, match="did you mean 'kind'"):
        observed(DEFECTS, [{"kind": "pit"}], only=["kinds"])
