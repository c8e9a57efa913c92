"""The figures of probabilities are right if the truth is known, and appear in every report."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
from numpy.random import default_rng

from tests.forms import form_of
from vlm_ft.answers.confidence import Bound, Confidence, at_temperatures, tempered
from vlm_ft.answers.kinds import Choice, Flag
from vlm_ft.answers.prediction import FieldValue, Item, Prediction
from vlm_ft.evaluation.reliability import (
    alarm,
    coverage_at_risk,
    expected_calibration_error,
    mean_log_probability,
    sureness_of,
)

FORM = form_of(ok=Flag(), kind=Choice(options=("a", "b")))
BOUND = Bound(risk=0.05, level=0.9, threshold=0.0, count=0, needed=45)


def stating(good: float, a: float) -> Prediction:
    return Prediction(
        fields={
            "ok": FieldValue(bool(good >= 0.5), {"true": good, "false": 1 - good}),
            "kind": FieldValue("a" if a >= 0.5 else "b", {"a": a, "b": 1 - a}),
        }
    )


def drawn(count: int, heat: float = 1.0) -> tuple[list[dict], list[Prediction]]:
    """Truths that follow the probabilities, which are then made overconfident by `heat`."""
    random = default_rng(0)
    goods, sorts = random.beta(3, 1, count), random.random(count)
    truths = [
        {"ok": bool(random.random() < g), "kind": "a" if random.random() < a else "b"}
        for g, a in zip(goods, sorts, strict=True)
    ]
    said = [
        (tempered({"true": g, "false": 1 - g}, 1 / heat)["true"], tempered({"a": a, "b": 1 - a}, 1 / heat)["a"])
        for g, a in zip(goods, sorts, strict=True)
    ]
    return truths, [stating(good, a) for good, a in said]


def test_true_probabilities_stay_in_the_band_and_others_leave_it() -> None:
    for heat, within in ((1.0, True), (4.0, False)):
        truths, answers = drawn(1500, heat)
        found = sureness_of(FORM, truths, [""] * 1500, {"adapter": answers}, None, "adapter")
        assert [entry.field for entry in found.reliability] == ["ok", "kind"]
        for entry in found.reliability:
            assert (entry.ece.value <= entry.band) == within
            assert entry.ece.low <= entry.ece.value <= entry.ece.high
            assert sum(one.count for one in entry.bins) == 1500


def test_before_fitting_means_the_raw_probabilities() -> None:
    truths, answers = drawn(400)
    confidence = Confidence(temperatures={"ok": 2.0}, bound=BOUND)
    served = [
        Prediction(
            fields={**one.fields, "ok": FieldValue(one.values["ok"], tempered(one.fields["ok"].distribution, 2.0))}
        )
        for one in answers
    ]
    found = sureness_of(FORM, truths, [""] * 400, {"adapter": served}, confidence, "adapter").reliability
    plain = sureness_of(FORM, truths, [""] * 400, {"adapter": answers}, None, "adapter").reliability
    before = {(entry.field, entry.system): entry for entry in found}["ok", "adapter, before fitting"]
    assert before.log_loss.value == pytest.approx(plain[0].log_loss.value, rel=1e-4)


def test_the_error_of_a_known_case() -> None:
    sure, right = np.array([0.9, 0.9, 0.6, 0.6]), np.array([1.0, 0.0, 1.0, 1.0])
    assert expected_calibration_error(sure, right) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


def test_coverage_counts_the_surest_first() -> None:
    truths = [{"ok": True, "kind": "a"}] * 40
    answers = [stating(0.99 - index / 1000, 0.99) for index in range(38)] + [stating(0.4, 0.99)] * 2
    curve = sureness_of(FORM, truths, [""] * 40, {"adapter": answers}, None, "adapter").coverage[0]
    assert curve.at_risk.value == pytest.approx(1.0)  # 2 of 40 wrong is 5 %
    assert curve.wrong[0] == 0


def test_answers_without_a_person_are_counted_and_judged() -> None:
    truths = [{"ok": True, "kind": "a"}] * 40
    answers = [stating(0.9, 0.9)] * 20 + [stating(0.3, 0.9)] * 10  # the last of these are wrong
    answers += [replace(stating(0.4, 0.9), decision="ask a person")] * 10
    found = sureness_of(FORM, truths, [""] * 40, {"adapter": answers}, None, "adapter").unaided
    assert found is not None
    assert (found.count, found.judged) == (40, 30)
    assert found.answered.value == pytest.approx(30 / 40)
    assert found.wrong is not None
    assert found.wrong.value == pytest.approx(10 / 30)


def test_the_mean_log_probability_is_a_rival_ranking() -> None:
    """It is undone tempering, and here ranks the wrong answers lower than the calibrated probability does."""
    truths = [{"ok": True, "kind": "a"}] * 40
    answers = [stating(0.9, 0.9)] * 30 + [stating(0.3, 0.99)] * 10  # the last ten are wrong
    confidence = Confidence(temperatures={"ok": 0.25}, bound=BOUND)
    served = [at_temperatures(one, confidence.temperatures) for one in answers]
    own, rival = sureness_of(FORM, truths, [""] * 40, {"adapter": served}, confidence, "adapter").coverage
    assert (own.by, rival.by) == ("adapter", "adapter, by mean log-probability")
    assert own.at_risk.value == 0  # calibrated, the wrong answers are surer
    assert rival.at_risk.value == pytest.approx(30 / 40)
    assert mean_log_probability(answers[0]) == pytest.approx(log(0.9))
    item = Item(0.9, {"kind": FieldValue("dent", {"dent": 0.5, "none": 0.5})})
    listed = FieldValue([{"kind": "dent"}], {"0": 0.1, "1": 0.8, "2 or more": 0.1}, items=(item,))
    assert mean_log_probability(Prediction({"found": listed})) == pytest.approx((log(0.8) + log(0.5)) / 2)


def test_the_interval_of_coverage_allows_for_the_choice_of_the_threshold() -> None:
    def sampled(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        random = default_rng(seed)
        good = random.beta(3, 1, count)
        return good, random.random(count) < good

    exact_good, exact_ok = sampled(0, 100_000)
    exact = coverage_at_risk(np.maximum(exact_good, 1 - exact_good), (exact_good >= 0.5) == exact_ok)
    held = 0
    for seed in range(1, 11):
        good, ok = sampled(seed, 300)
        truths, answers = [{"ok": bool(value), "kind": "a"} for value in ok], [stating(share, 1.0) for share in good]
        figure = sureness_of(FORM, truths, [""] * 300, {"adapter": answers}, None, "adapter").coverage[0].at_risk
        held += figure.low <= exact <= figure.high
    assert held >= 9


def test_operating_points_miss_what_lies_below_the_threshold() -> None:
    truths = [{"ok": index >= 10, "kind": "a"} for index in range(110)]
    answers = [stating(0.05, 0.9)] * 8 + [stating(0.95, 0.9)] * 2 + [stating(0.9, 0.9)] * 100
    form = FORM.model_copy(update={"follows": {"ok": "none"}})
    points = sureness_of(form, truths, [""] * 110, {"adapter": answers}, None, "adapter").operating
    assert [point.positive for point in points] == ["false"]  # the three thresholds coincide
    assert points[0].escapes.value == pytest.approx(0.2)
    assert points[0].false_rejects == 0


def test_copies_make_no_interval_narrower() -> None:
    """Five photos of each part, all answered and flagged alike, tell no more than one."""
    truths, answers = drawn(60)
    answers = [replace(answer, strange=2.0 * (index % 4 == 0)) for index, answer in enumerate(answers)]
    groups = [f"part {index}" for index in range(60)]
    plain = sureness_of(FORM, truths, groups, {"adapter": answers}, None, "adapter")
    copied = sureness_of(FORM, truths * 5, groups * 5, {"adapter": answers * 5}, None, "adapter")
    once = [plain.alarms[0].flagged, *(point.escapes for point in plain.operating)]
    often = [copied.alarms[0].flagged, *(point.escapes for point in copied.operating)]
    for one, five in zip(once, often, strict=True):
        assert five.value == pytest.approx(one.value)
        assert five.high - five.low > 0.9 * (one.high - one.low)  # the effective number of examples is estimated


def test_alarms_are_counted_if_there_are_any() -> None:
    assert alarm("test", [Prediction()], np.arange(1)) is None
    found = alarm("test", [Prediction(strange=1.5), Prediction(strange=0.5)], np.arange(2))
    assert found is not None
    assert (found.count, found.flagged.value) == (2, 0.5)
