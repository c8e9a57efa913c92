"""Temperatures make probabilities accurate; the bound is broken no more often than it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator, default_rng

from tests.forms import form_of
from vlm_ft.answers.calibration import calibrated, certified, distributions_with_truth, log_loss
from vlm_ft.answers.confidence import (
    Bound,
    Confidence,
    before_tempering,
    closed_fields,
    joint_probability,
    tempered,
    with_confidence,
)
from vlm_ft.answers.kinds import Choice, Flag, Text
from vlm_ft.answers.prediction import FieldValue, Prediction

FORM = form_of(kind=Choice(options=("a", "b", "c")), ok=Flag())


def stating(kinds: Mapping[str, float], flags: Mapping[str, float]) -> Prediction:
    """The most probable answer under these distributions."""
    best = max(kinds, key=lambda option: kinds[option])
    return Prediction(fields={"kind": FieldValue(best, kinds), "ok": FieldValue(flags["true"] >= 0.5, flags)})


def drawn(random: Generator, count: int, temperature: float) -> tuple[list[dict], list[Prediction]]:
    """True values that follow a distribution, and answers that are overconfident by this temperature."""
    truths, answers = [], []
    for _ in range(count):
        kinds = dict(zip("abc", random.dirichlet((1.0, 0.6, 0.4)), strict=True))
        good = float(random.beta(4, 1))
        flags = {"true": good, "false": 1 - good}
        truths.append(
            {"kind": str(random.choice(list("abc"), p=list(kinds.values()))), "ok": bool(random.random() < good)}
        )
        kind, ok = tempered(kinds, 1 / temperature), tempered(flags, 1 / temperature)
        answers.append(
            Prediction(
                fields={"kind": FieldValue(max(kind, key=lambda o: kind[o]), kind), "ok": FieldValue(good >= 0.5, ok)}
            )
        )
    return truths, answers


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_lowers_the_log_loss(temperature: float) -> None:
    truths, answers = drawn(default_rng(1), 1500, temperature)
    found = calibrated(FORM, truths, answers, [""] * len(truths))
    for name in ("kind", "ok"):
        assert found.temperatures[name] == pytest.approx(temperature, rel=0.15)
        pairs, _ = distributions_with_truth(name, truths, answers)
        assert log_loss(pairs, found.temperatures[name]) <= log_loss(pairs) + 1e-4


def test_a_perfect_sample_does_not_make_it_certain() -> None:
    truths = [{"kind": "a", "ok": True}] * 60
    answers = [stating({"a": 0.9, "b": 0.06, "c": 0.04}, {"true": 0.8, "false": 0.2})] * 60
    found = calibrated(FORM, truths, answers, [""] * 60)
    served = with_confidence(FORM, answers[0], found)
    for name in ("kind", "ok"):
        assert served.fields[name].probability == pytest.approx(61 / 62, abs=0.01)  # the rule of succession


def test_few_examples_leave_the_temperature_alone() -> None:
    truths, answers = drawn(default_rng(1), 19, 3.0)
    assert set(calibrated(FORM, truths, answers, [""] * 19).temperatures.values()) == {1.0}


def test_the_bound_is_broken_no_more_often_than_stated() -> None:
    """Answers of known risk: the true risk above the threshold exceeds 5 % in at most 10 % of 400 draws."""
    random, broken, found = default_rng(0), 0, 0
    for _ in range(400):
        sure = random.beta(10, 1, 300)
        right = random.random(300) < sure  # the risk of an answer is 1 - sure
        bound = certified(sure, right)
        if bound.threshold is not None:
            found += 1
            many = random.beta(10, 1, 20_000)
            broken += (1 - many[many >= bound.threshold]).mean() > bound.risk
    assert found > 100  # the guarantee is not kept by never giving one
    assert broken <= 400 * 0.10 + 3 * np.sqrt(400 * 0.1 * 0.9)


def test_too_few_examples_certify_nothing_and_the_reason_is_stated() -> None:
    for count, certifiable in ((44, False), (45, True)):
        bound = certified(np.full(count, 0.9), np.ones(count, dtype=bool))
        assert (bound.threshold is not None) == certifiable
    spoilt = certified(np.full(100, 0.9), np.arange(100) % 4 > 0)
    assert spoilt.threshold is None
    assert "25 of the 100 surest answers are wrong" in spoilt.in_words
    assert "n=41; needs 45, all of them right" in certified(np.full(41, 0.9), np.ones(41, dtype=bool)).in_words


def test_examples_of_one_group_count_once() -> None:
    truths, answers = drawn(default_rng(2), 200, 1.0)
    assert calibrated(FORM, truths, answers, [str(index % 40) for index in range(200)]).bound.count == 40


BOUND = Bound(risk=0.05, level=0.9, threshold=0.6, count=100, needed=45, answered=80, wrong=1)


def test_answers_below_the_threshold_go_to_a_person_with_the_reason() -> None:
    confidence = Confidence(temperatures={"kind": 2.0}, bound=BOUND)
    good = {"true": 0.9, "false": 0.1}
    sure, unsure = (
        stating(kinds, good) for kinds in ({"a": 0.98, "b": 0.01, "c": 0.01}, {"a": 0.5, "b": 0.3, "c": 0.2})
    )
    assert with_confidence(FORM, sure, confidence).decision == "answer"
    asked = with_confidence(FORM, unsure, confidence)
    assert asked.decision == "ask a person"
    assert asked.reason == "37% sure of the whole answer, below 60%, and only 42% of kind"
    assert asked.fields["kind"].distribution == pytest.approx(tempered({"a": 0.5, "b": 0.3, "c": 0.2}, 2.0))
    none = Confidence(temperatures={}, bound=BOUND.model_copy(update={"threshold": None}))
    assert "not certifiable" in with_confidence(FORM, sure, none).reason


def legal_answers(*legal: float) -> list[Prediction]:
    answer = stating({"a": 0.98, "b": 0.01, "c": 0.01}, {"true": 0.99, "false": 0.01})
    return [replace(answer, fields={**answer.fields, "ok": replace(answer.fields["ok"], legal=one)}) for one in legal]


@pytest.mark.parametrize(("usual", "low"), [(0.99, 0.4), (0.2, 0.1)], ids=["trained on answers", "on decisions"])
def test_a_model_that_wanted_to_say_something_else_goes_to_a_person(usual: float, low: float) -> None:
    truths = [{"kind": "a", "ok": True}] * 100
    found = calibrated(FORM, truths, legal_answers(*[usual] * 100), [""] * 100)
    served, flagged = (with_confidence(FORM, answer, found) for answer in legal_answers(usual, low))
    assert served.decision == "answer"
    assert flagged.decision == "ask a person"
    assert flagged.reason.startswith(f"ok: the model gave only {low:.1%} of its probability to what the form allows")


def test_answers_that_are_withheld_for_their_legal_probability_do_not_count_for_the_bound() -> None:
    """Otherwise, the bound would be on other answers than those given."""
    truths = [{"kind": "a", "ok": True}] * 300
    found = calibrated(FORM, truths, legal_answers(0.1, 0.2, *[0.3] * 298), [""] * 300)
    assert (found.legal, found.bound.count) == (0.3, 298)


def test_a_form_of_free_text_has_no_joint_probability() -> None:
    form = form_of(note=Text(max_length=10))
    assert joint_probability(closed_fields(form), Prediction(fields={"note": FieldValue("x")})) is None


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_threshold_applies_to_the_calibrated_probability(temperature: float) -> None:
    raw = before_tempering(FORM.with_thresholds({"ok": 0.8}), {"ok": temperature}).thresholds["ok"]
    assert tempered({"true": raw, "false": 1 - raw}, temperature)["true"] == pytest.approx(0.8)


def test_the_bound_is_on_flags_decided_at_the_fitted_temperature() -> None:
    """Before it was fitted, the threshold decided on other probabilities."""
    form = FORM.with_thresholds({"ok": 0.8})
    truths, answers = drawn(default_rng(3), 400, 3.0)
    fitted = [
        calibrated(
            form,
            truths,
            [replace(one, fields={**one.fields, "ok": replace(one.fields["ok"], value=ok)}) for one in answers],
            [""] * 400,
        )
        for ok in (True, False)
    ]
    assert fitted[0] == fitted[1]


def test_each_field_has_its_own_bound_and_decision() -> None:
    """The kind can be relied on, the flag cannot: a person needs to look at the flag only."""
    random = default_rng(4)
    certain, doubtful = {"a": 0.98, "b": 0.01, "c": 0.01}, {"true": 0.6, "false": 0.4}
    truths = [{"kind": "a", "ok": bool(random.random() < 0.6)} for _ in range(200)]
    found = calibrated(FORM, truths, [stating(certain, doubtful)] * 200, [""] * 200)
    served = with_confidence(FORM, stating(certain, doubtful), found)
    assert found.bounds["kind"].threshold is not None
    assert found.bounds["ok"].threshold is None
    assert (served.fields["kind"].decision, served.fields["kind"].reason) == ("answer", None)
    assert served.fields["ok"].decision == served.decision == "ask a person"
    assert "surest answers are wrong" in (served.fields["ok"].reason or "")
    assert Prediction.from_json(served.to_json()) == served


def test_an_answer_about_something_unfamiliar_is_left_to_a_person_in_every_field() -> None:
    confidence = Confidence(temperatures={}, bound=BOUND, bounds={"kind": BOUND, "ok": BOUND})
    sure = stating({"a": 0.98, "b": 0.01, "c": 0.01}, {"true": 0.99, "false": 0.01})
    served = with_confidence(FORM, sure.doubted("unlike the training photos"), confidence)
    assert {(entry.decision, entry.reason) for entry in served.fields.values()} == {
        ("ask a person", "unlike the training photos")
    }
