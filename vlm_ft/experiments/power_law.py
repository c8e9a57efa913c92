"""How a figure grows with the number of examples: a power law, its interval, and whether it can be trusted.

The error (1 - figure, or the distance itself) is modelled as ``floor + scale * n ** -exponent``: Cortes et al. 1993,
"Learning curves: asymptotic values and rate of convergence"; Hestness et al. 2017 for deep networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.intervals import INTERVAL, RESAMPLES, SEED
from vlm_ft.answers.kinds import Strict

MIN_POINTS = 4
MIN_TESTED = 50
MAX_WIDTH = 0.25
"""The widest useful interval at twice the examples: a wider one says little about a figure between 0 and 1."""

_EXPONENTS = np.linspace(0.05, 2.0, 79)

Array = NDArray[np.float64]


class Point(Strict):
    """A figure measured at a number of training examples, its 95 % interval, and its number of test examples.

    `minutes`: of training, per run.
    """

    examples: int
    value: float
    low: float
    high: float
    tested: int
    majority: float | None = None
    minutes: float = 0.0


class Forecast(Strict):
    """The figure predicted at a number of examples, with a 95 % interval."""

    examples: int
    value: float
    low: float
    high: float


class Needed(Strict):
    """The number of examples for a target, with an 80 % interval; None: the curve does not reach it."""

    target: float
    examples: int | None
    low: int | None
    high: int | None


@dataclass(frozen=True)
class PowerLaw:
    """The fit, and its resamples: `floor`, `scale`, `exponent` each (1 + RESAMPLES,), the fit itself first."""

    floor: Array
    scale: Array
    exponent: Array
    lower_is_better: bool

    @classmethod
    def of(cls, points: Sequence[Point], lower_is_better: bool = False) -> PowerLaw:
        """Fit by weighted least squares, to the points and to RESAMPLES draws from their intervals.

        The fit is exact for each exponent of a grid (0.05 to 2); floor and scale are not negative.
        """
        sizes = np.array([point.examples for point in points], dtype=float)
        values = np.array([point.value for point in points])
        errors = values if lower_is_better else 1 - values
        spread = _spread(points)
        draws = np.random.default_rng(SEED).normal(errors, spread, (RESAMPLES, len(points)))
        floor, scale, exponent = _fitted(sizes, np.vstack([errors, np.clip(draws, 0, None)]), 1 / spread**2)
        return cls(floor, scale, exponent, lower_is_better)

    def at(self, examples: int) -> Forecast:
        """The figure that the curve predicts."""
        error = self.floor + self.scale * float(examples) ** -self.exponent
        values = error if self.lower_is_better else np.clip(1 - error, 0, 1)
        low, high = np.quantile(values[1:], INTERVAL)
        value = float(values[0])
        return Forecast(examples=examples, value=value, low=min(value, float(low)), high=max(value, float(high)))

    def needed(self, target: float) -> Needed:
        """The number of examples that the curve needs for a target; numbers above 1e9 are None."""
        left = (target if self.lower_is_better else 1 - target) - self.floor
        reached = (left > 0) & (self.scale > 0)
        power = np.log(self.scale, where=reached, out=np.zeros_like(left))
        power = (power - np.log(left, where=reached, out=np.zeros_like(left))) / self.exponent
        flat = np.where((self.scale <= 0) & (left >= 0), 0.0, np.inf)
        sizes = np.where(reached, np.exp(np.clip(power, 0, 50)), flat)
        low, high = np.quantile(sizes[1:], (0.1, 0.9), method="nearest")
        counts = [None if size > 1e9 else max(1, int(np.ceil(size))) for size in (sizes[0], low, high)]
        return Needed(target=target, examples=counts[0], low=counts[1], high=counts[2])


def doubts(points: Sequence[Point], lower_is_better: bool = False) -> tuple[str, ...]:
    """Reasons not to trust the curve beyond its points; () if there are none."""
    found: list[str] = []
    if len(points) < MIN_POINTS:
        return (f"{len(points)} points; a power law has three unknowns, so at least {MIN_POINTS} are needed",)
    if points[-1].tested < MIN_TESTED:
        found.append(f"{points[-1].tested} test examples; fewer than {MIN_TESTED} leave too much to chance")
    sign = -1.0 if lower_is_better else 1.0
    gain = sign * (points[-1].value - points[0].value)
    if gain <= 2 * float(np.hypot(*_spread([points[0], points[-1]]))):
        found.append("from the fewest to the most examples it does not improve by more than chance")
    floor = points[-1].majority
    if floor is not None and sign * (points[-1].value - floor) <= 0:
        found.append(f"with all examples it is not better than the majority ({floor:.3f})")
    law = PowerLaw.of(points, lower_is_better)
    residuals = np.array([law.at(point.examples).value - point.value for point in points]) / _spread(points)
    if float((residuals**2).sum()) > 9 + 2 * len(points):
        found.append("the points do not lie along a power law within their intervals")
    found += _missed(points, lower_is_better)
    ahead = law.at(2 * points[-1].examples)
    if not lower_is_better and ahead.high - ahead.low > MAX_WIDTH:
        found.append(f"at {ahead.examples} examples its interval is {ahead.high - ahead.low:.2f} wide")
    return tuple(found)


def _missed(points: Sequence[Point], lower_is_better: bool) -> list[str]:
    """The doubt that arises if a fit to all points but the last does not predict the last one."""
    last = points[-1]
    predicted = PowerLaw.of(points[:-1], lower_is_better).at(last.examples)
    if predicted.low <= last.high and last.low <= predicted.high:
        return []
    return [
        f"fitted without the last point, it predicts {predicted.value:.3f} [{predicted.low:.3f}, {predicted.high:.3f}] "
        f"there; measured: {last.value:.3f}"
    ]


def _spread(points: Sequence[Point]) -> Array:
    """Standard errors from 95 % intervals, at least a third of an example: a figure of exactly 0 or 1 may have none."""
    widths = np.array([(point.high - point.low) / 3.92 for point in points])
    least = np.array([max(abs(point.value), 1.0) / (3 * max(point.tested, 1)) for point in points])
    return np.asarray(np.maximum(widths, least))


def _fitted(sizes: Array, errors: Array, weights: Array) -> tuple[Array, Array, Array]:
    """(floor, scale, exponent) of each row of errors (rows, points); scale is in errors at one example."""
    best = np.full(len(errors), np.inf)
    found = np.zeros((3, len(errors)))
    total = weights.sum()
    mean = errors @ weights / total
    for exponent in _EXPONENTS:
        basis = sizes**-exponent
        centre = basis @ weights / total
        spread = ((basis - centre) ** 2) @ weights
        scale = np.clip((errors - mean[:, None]) @ (weights * (basis - centre)) / spread, 0, None)
        floor = mean - scale * centre
        through_zero = (errors @ (weights * basis)) / ((basis**2) @ weights)  # used if the floor would be negative
        scale, floor = np.where(floor < 0, through_zero, scale), np.clip(floor, 0, None)
        cost = ((errors - floor[:, None] - scale[:, None] * basis) ** 2) @ weights
        better = cost < best
        best = np.where(better, cost, best)
        found = np.where(better, np.stack([floor, scale, np.full_like(floor, exponent)]), found)
    return found[0], found[1], found[2]
