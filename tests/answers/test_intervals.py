"""95 % intervals contain the population's figure in about 95 of 100 samples, even in small ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from tests.forms import form_of
from vlm_ft.answers.intervals import Sums, bca_interval, mean, percentile_interval, share_interval, wilson
from vlm_ft.answers.kinds import Choice
from vlm_ft.answers.metrics import _class_counts, _macro_f1, measure
from vlm_ft.answers.prediction import FieldValue, Prediction

SAMPLES = 300
LEAST = 0.90  # of 300 samples; 0.95 less four standard errors of 0.0126


@pytest.mark.parametrize(("count", "share"), [(5, 0.9), (20, 0.9), (50, 0.98), (200, 0.5)])
def test_shares_are_covered(count: int, share: float) -> None:
    right = np.random.default_rng(0).binomial(count, share, 2000)
    found = [wilson(hits / count, count) for hits in right]
    assert np.mean([low <= share <= high for low, high in found]) > LEAST


def test_shares_of_grouped_examples_are_covered() -> None:
    dice = np.random.default_rng(0)
    found = []
    for _ in range(SAMPLES):
        right = dice.binomial(4, dice.beta(4, 1, 25))  # photos of one part are right or wrong together
        found.append(share_interval(np.stack([right, np.full(25, 4)], axis=1).astype(float)))
    assert np.mean([low <= 0.8 <= high for low, high in found]) > LEAST


@pytest.mark.parametrize(("count", "right"), [(20, 0.9), (40, 0.97), (100, 0.8)])
def test_macro_f1_is_covered(count: int, right: float) -> None:
    dice = np.random.default_rng(0)

    def sample(size: int) -> Sums:
        true, other = dice.integers(0, 4, (2, size))
        given = np.where(dice.random(size) < right, true, other)
        everything = [*zip(true.tolist(), given.tolist(), strict=True), *((name, name) for name in range(4))]
        return np.array(_class_counts(everything))[:size]

    population = float(_macro_f1(sample(200_000).sum(axis=0)))
    found = [bca_interval(sample(count), _macro_f1) for _ in range(SAMPLES)]
    assert np.mean([low <= population <= high for low, high in found]) > LEAST


def test_skewed_means_are_covered() -> None:
    dice = np.random.default_rng(0)
    found = [
        bca_interval(np.stack([dice.exponential(1, 30), np.ones(30)], axis=1), mean, top=None) for _ in range(SAMPLES)
    ]
    assert np.mean([low <= 1 <= high for low, high in found]) > 0.88  # BCa of 30 exponential draws: 0.92


def test_the_interval_agrees_with_scipy() -> None:
    column = np.random.default_rng(0).exponential(1, 50)
    theirs = bootstrap((column,), np.mean, n_resamples=9999, rng=0).confidence_interval
    ours = bca_interval(np.stack([column, np.ones(50)], axis=1), mean, top=None)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)  # 1000 draws


def test_five_of_five_correct_is_not_certain() -> None:
    truths = [{"kind": "dent"}] * 5
    answers = [Prediction(fields={"kind": FieldValue("dent")})] * 5
    metrics = measure(form_of(kind=Choice(options=("dent", "pit"))), truths, answers)
    assert {metric.field for metric in metrics} == {"", "kind"}
    for metric in metrics:
        assert (metric.low, metric.high) == (pytest.approx(0.566, abs=1e-3), 1)


def test_copies_are_one_cluster() -> None:
    assert share_interval(np.array([[10.0, 10.0]])) == wilson(1, 1)
    assert bca_interval(np.array([[10.0, 10.0]]), mean) == wilson(1, 1)


def test_the_median_of_equal_values_is_a_point() -> None:
    assert percentile_interval(np.median, np.arange(4), np.full(4, 7.0)) == (7, 7)
