"""95 % confidence intervals of a sample's figures, over examples or over clusters of them.

Every figure except a median is a function of sums over examples (right answers, matched items, counts per class), so a
resample is one matrix product and a jackknife is one subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_ft.answers.kinds import Strict

LEVEL = 0.95
INTERVAL = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
RESAMPLES = 1000
SEED = 0  # equal data always give equal intervals

Sums = NDArray[np.float64]
Interval = tuple[float, float]
Statistic = Callable[[Sums], Sums]
"""Sums (..., columns) to figures (...)."""


def clusters_of(groups: Sequence[str]) -> NDArray[np.int64]:
    """The cluster number of each example: one per group; each example of the group "" is its own cluster."""
    numbers: dict[Any, int] = {}
    keys = [group or index for index, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def summed(rows: Sums, clusters: NDArray[np.int64]) -> Sums:
    """The sums of rows (examples, columns) within each cluster, (clusters, columns)."""
    _, members = np.unique(clusters, return_inverse=True)
    sums = np.zeros((members.max() + 1, rows.shape[1]))
    np.add.at(sums, members, rows)
    return sums


def mean(sums: Sums) -> Sums:
    """The mean, from sums (..., 2) of values and of their number."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def wilson(share: float, count: float) -> Interval:
    """The score interval of a share of `count` independent trials (Wilson 1927)."""
    from scipy.stats import norm

    z = norm.ppf(INTERVAL[1])
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def share_interval(sums: Sums) -> Interval:
    """Wilson's interval for sums (clusters, 2) of right and of all examples, at the effective sample size.

    This size is the number of examples divided by the design effect (Kish 1965, section 5.4). If all examples are right
    or all are wrong, the effect is unknown, and the number of clusters is used instead.
    """
    right, examples = sums.sum(axis=0)
    share, clusters = right / examples, len(sums)
    simple = share * (1 - share) / examples
    if clusters == examples or simple == 0:
        return wilson(share, clusters)
    variance = np.square(sums[:, 0] - share * sums[:, 1]).sum() / examples**2
    return wilson(share, examples * min(1.0, simple / variance) if variance > 0 else clusters)


def bca_interval(sums: Sums, statistic: Statistic, top: float | None = 1.0) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987) from sums (clusters, columns).

    If all resamples agree, as for a sample without mistakes, the interval is Wilson's for the figure as a share of
    `top`, its largest value, with one trial per cluster; without `top`, it is the value itself. Results agree with
    scipy.stats.bootstrap, whose jackknife takes quadratic time in the number of clusters.
    """
    from scipy.stats import norm

    value, draws = statistic(sums.sum(axis=0)), statistic(_resampled(sums))
    if np.ptp(draws) == 0:
        low, high = wilson(float(value / top), len(sums)) if top else (float(value), float(value))
        return (low * top, high * top) if top else (low, high)
    below = (np.mean(draws < value) + np.mean(draws <= value)) / 2
    left_out = statistic(sums.sum(axis=0) - sums)
    gaps = left_out.mean() - left_out
    spread = np.square(gaps).sum() ** 1.5
    acceleration = float((gaps**3).sum() / (6 * spread)) if spread else 0.0
    bias = norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    reach = bias + norm.ppf(INTERVAL)
    low, high = np.quantile(draws, norm.cdf(bias + reach / (1 - acceleration * reach)))
    return float(low), float(high)


def percentile_interval(figure: Callable[..., float], clusters: NDArray[np.int64], *columns: NDArray[Any]) -> Interval:
    """Percentile bootstrap interval (Efron 1979), over clusters, of any figure of these columns, (examples,) each."""
    _, members = np.unique(clusters, return_inverse=True)
    count = int(members.max()) + 1
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    figures = [figure(*(np.repeat(column, times[members]) for column in columns)) for times in draws]
    low, high = np.quantile(figures, INTERVAL)
    return float(low), float(high)


def _resampled(sums: Sums) -> Sums:
    """Sums over RESAMPLES draws of all clusters with replacement, (RESAMPLES, columns).

    Equal clusters are drawn together and in sorted order, so that the order of examples does not matter.
    """
    unique, counts = np.unique(sums, axis=0, return_counts=True)
    draws = np.random.default_rng(SEED).multinomial(len(sums), counts / len(sums), size=RESAMPLES)
    return draws @ unique


class Figure(Strict):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, interval: Interval) -> Figure:
        """The value with its interval, widened if rounding or skew leaves the value outside."""
        low, high = interval
        return cls(value=value, low=min(value, low), high=max(value, high))

    @classmethod
    def resampled(cls, figure: Callable[..., float], clusters: NDArray[np.int64], *columns: NDArray[Any]) -> Figure:
        """A figure of these columns, (examples,) each, with its percentile interval."""
        return cls.of(figure(*columns), percentile_interval(figure, clusters, *columns))

    @classmethod
    def share(cls, flags: NDArray[Any], clusters: NDArray[np.int64]) -> Figure:
        """The mean of flags, or of shares from 0 to 1, one per example; examples of one cluster are not independent."""
        return cls.of(float(flags.mean()), share_interval(_counted(flags, clusters)))

    @classmethod
    def mean(cls, values: Sequence[float] | Sums, clusters: NDArray[np.int64], top: float | None = None) -> Figure:
        """The mean of values from 0 to `top` (None: no limit), one per example."""
        return cls.of(float(np.mean(values)), bca_interval(_counted(values, clusters), mean, top))


def _counted(values: Sequence[float] | NDArray[Any], clusters: NDArray[np.int64]) -> Sums:
    """The sum of the values in each cluster, and their number, (clusters, 2)."""
    return summed(np.column_stack([values, np.ones(len(values))]), clusters)
