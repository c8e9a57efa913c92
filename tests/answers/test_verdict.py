"""The verdict of an answer follows from its form, for the shipped tasks and for a user's own."""

from __future__ import annotations

import pytest

from tests.cards import sample_prediction
from tests.forms import form_of, whole_form
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Integer, Text
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Headline, Task
from vlm_ft.answers.verdict import verdict_of
from vlm_ft.errors import FormError
from vlm_ft.tasks import TASKS

STEEL = Form.of(TASKS["product_defects"], {"kind": ["none", "scratch"]}, ["passed", "kind"])
SAID = {
    "car_damage": ("DAMAGED: moderate, dent, repair", "bad"),
    "product_defects": ("FAIL: scratch", "bad"),
    "aviation_maintenance": ("incident, crack", "plain"),
    "scan_abnormalities": ("ABNORMAL: lesion", "bad"),
    "object_identification": ("bottle", "plain"),
    "technical_diagnosis": ("leak, hydraulics, soon", "doubtful"),
    "customer_chatbot": ("track order", "plain"),
    "industry_language": ("report fault", "plain"),
    "legal_documents": ("PRESENT: audit rights, medium", "doubtful"),
    "medical_conditions": ("maybe", "plain"),
    "scientific_research": ("supported", "plain"),
}


def flagged(passed: bool, kind: str, sure: float = 0.9, of_kind: float = 0.8) -> Prediction:
    return Prediction(
        {
            "passed": FieldValue(passed, {"true": 1 - sure, "false": sure} if not passed else {"true": sure}),
            "kind": FieldValue(kind, {kind: of_kind}),
        }
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_every_task_has_a_verdict(task: Task) -> None:
    verdict = verdict_of(whole_form(task), sample_prediction(task))
    assert verdict is not None
    assert (verdict.text, verdict.tone) == SAID[task.name]
    assert verdict.probability is None


def test_its_probability_is_that_of_all_it_states() -> None:
    failed = verdict_of(STEEL, flagged(False, "scratch"))
    assert failed is not None
    assert failed.probability == pytest.approx(0.72)
    passed = verdict_of(STEEL, flagged(True, "none"))
    assert passed is not None
    assert (passed.text, passed.tone, passed.probability) == ("PASS", "good", 0.9)  # no finding, so no class


def test_a_form_without_a_headline_has_one_from_its_fields() -> None:
    options = Choice(options=("low", "high"))
    own = form_of(risk=options, cause=options, sound=Flag(), count=Integer(minimum=0, maximum=9))
    values = {"risk": "low", "cause": "high", "sound": False, "count": 3}
    answer = Prediction({name: FieldValue(value) for name, value in values.items()})
    verdict = verdict_of(own, answer)
    assert verdict is not None
    assert (verdict.text, verdict.tone) == ("NOT SOUND: low", "plain")
    counted = verdict_of(own.narrow(["count"]), answer)
    assert counted is not None
    assert counted.text == "count 3"
    older = STEEL.model_copy(update={"headline": Headline()})  # of a card that an earlier version wrote
    before = verdict_of(older, flagged(False, "scratch"))
    assert before is not None
    assert (before.text, before.tone) == ("NOT PASSED: scratch", "bad")
    assert verdict_of(form_of(reply=Text(max_length=9)), Prediction({"reply": FieldValue("yes")})) is None


def test_a_headline_names_fields_of_its_task() -> None:
    task = TASKS["scientific_research"]
    changed = Task(**{**vars(task), "headline": Headline(fields=("verdicts",))})
    with pytest.raises(FormError, match=r"no field 'verdicts'; did you mean 'verdict'"):
        Form.of(changed)


def test_a_card_keeps_the_headline_only_if_there_is_one() -> None:
    assert Form.model_validate_json(STEEL.model_dump_json()).headline.words == {"passed": ("pass", "fail")}
    assert "headline" not in form_of(sound=Flag()).model_dump()
