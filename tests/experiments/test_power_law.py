"""The fit of a learning curve finds the law behind the points, and says if there is none."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_ft.experiments.power_law import Point, PowerLaw, doubts

SIZES = (25, 50, 100, 200, 400)


def points(values: list[float] | np.ndarray, width: float = 0.02, tested: int = 400, **more: float) -> list[Point]:
    return [
        Point(examples=size, value=float(value), low=value - width, high=value + width, tested=tested, **more)
        for size, value in zip(SIZES, values, strict=False)
    ]


def law(size: float, floor: float, scale: float, exponent: float) -> float:
    return 1 - (floor + scale * size**-exponent)


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.05, 2.0, 0.5), (0.0, 0.9, 0.3), (0.1, 4.0, 0.8)])
def test_the_law_that_made_the_points_is_found(floor, scale, exponent):
    made = points([law(size, floor, scale, exponent) for size in SIZES], width=0.002)
    predicted = PowerLaw.of(made).at(1600)
    assert predicted.value == pytest.approx(law(1600, floor, scale, exponent), abs=0.01)
    assert predicted.low <= predicted.value <= predicted.high


def test_intervals_contain_the_truth_about_as_often_as_stated():
    generator, held = np.random.default_rng(0), 0
    for _ in range(60):
        noisy = [law(size, 0.05, 2.0, 0.5) + generator.normal(0, 0.01) for size in SIZES]
        predicted = PowerLaw.of(points(noisy)).at(800)
        held += predicted.low <= law(800, 0.05, 2.0, 0.5) <= predicted.high
    assert held / 60 > 0.85  # of 0.95: the fit has bounds, and sixty trials vary by chance


def test_a_lower_is_better_figure_is_fitted():
    made = points([8 * size**-0.5 for size in SIZES])
    assert PowerLaw.of(made, lower_is_better=True).at(1600).value == pytest.approx(0.2, abs=0.05)


def test_the_number_of_examples_for_a_target_is_predicted():
    fit = PowerLaw.of(points([law(size, 0.0, 2.0, 0.5) for size in SIZES], width=0.002))
    needed = fit.needed(0.95)
    assert needed.examples == pytest.approx(1600, rel=0.1)
    assert needed.low <= needed.examples <= needed.high
    assert PowerLaw.of(points([0.7, 0.7, 0.7, 0.7, 0.7])).needed(0.99).examples is None
    assert PowerLaw.of(points([0.7, 0.7, 0.7, 0.7, 0.7])).needed(0.5).examples == 1


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (points([0.5, 0.6, 0.7]), "points; a power law"),
        (points([0.5, 0.6, 0.7, 0.77, 0.82], tested=20), "test examples"),
        (points([0.70, 0.71, 0.69, 0.70, 0.71]), "by more than chance"),
        (points([0.5, 0.6, 0.7, 0.77, 0.82], majority=0.9), "not better than the majority"),
        (points([0.5, 0.9, 0.5, 0.9, 0.7]), "do not lie along a power law"),
        (points([0.5, 0.6, 0.7, 0.77, 0.30]), "fitted without the last point"),
        (points([0.2, 0.5, 0.4, 0.6, 0.55], width=0.25), "wide"),
    ],
)
def test_doubts_about_a_forecast_are_stated(made, reason):
    assert any(reason in doubt for doubt in doubts(made)), doubts(made)


def test_a_clean_curve_raises_no_doubts():
    assert doubts(points([law(size, 0.05, 2.0, 0.5) for size in SIZES], majority=0.3)) == ()


def test_perfect_figures_give_a_flat_curve_and_doubts():
    perfect = [Point(examples=size, value=1.0, low=1.0, high=1.0, tested=60) for size in SIZES]
    assert PowerLaw.of(perfect).at(800).value == pytest.approx(1.0, abs=0.01)
    assert doubts(perfect)
