"""A number with the 95 % interval that sampling the test rows leaves it.

None of them covers what another training draw or seed would change: repeat the run for that.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.core.base import IntArray
from probe.core.intervals import Interval as Interval

FloatArray = NDArray[np.float64]

LEVEL = 0.95
N_RESAMPLES = 1000
KEPT_BYTES = 2**26
N_SUPPOSED = 4.0
EDGE = 1e-12
RECIPE = "2"  # statistics between 0 and 1 have Wilson's form; "1" cut the normal one
QUANTILES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def wilson(successes: float, n: float, level: float = LEVEL) -> Interval:
    """Share of successes with Wilson's score interval; n may be an effective number, (1 - share) share / variance.

    Has width at 0 and at n too, and covers well from small n on. Source: E. B. Wilson, "Probable Inference, the Law of
    Succession, and Statistical Inference", 1927; recommended by Brown, Cai and DasGupta, 2001.
    """
    z2 = float(ndtri((1 + level) / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(share, float(min(max(0.0, centre - half), share)), float(max(min(1.0, centre + half), share)))


def mean_of(parts: Sequence[Interval], overlap: float = 1.0) -> Interval:
    """Mean of K values from their intervals, whose distances to the values add as standard errors do.

    Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach", 2008.

    Args:
        parts: K values with intervals.
        overlap: Factor of the squared width where the parts share rows: 1 independent, K all the same.
    """
    value, low, high = np.array([(part.value, part.low, part.high) for part in parts]).T

    def distance(each: FloatArray) -> float:
        return float(min(np.sqrt(overlap * (each**2).sum()) / len(each), each.mean()))

    mean = float(value.mean())
    return Interval(mean, mean - distance(value - low), mean + distance(high - value))


def mean_with_errors(values: FloatArray, correct: NDArray[np.bool_], if_wrong: FloatArray) -> Interval:
    """Mean of (N,) losses that wrong rows dominate, of which a test set may show few or none.

    The mean is (1 - e) a + e b with the share e of wrong rows and the mean losses a of right and b of wrong ones. What
    a and b leave open is normal; what e leaves open is Wilson's interval times b - a, in which one row more counts as
    wrong, with the mean of what right rows would lose if they were. So there is an upper end where nothing was wrong.

    Args:
        values: Losses of the rows.
        correct: (N,) which rows are right.
        if_wrong: (N,) what each would lose, had it the likeliest other label.
    """
    n, right, wrong = len(values), values[correct], values[~correct]
    share, mean = wilson(len(wrong), n), float(values.mean())
    supposed = float(if_wrong[correct].mean()) if len(right) else float(wrong.mean())
    apart = (wrong.sum() + supposed) / (len(wrong) + 1) - (float(right.mean()) if len(right) else 0.0)
    within = sum(float(part.var()) * len(part) for part in (right, wrong) if len(part)) / n**2
    normal = float(ndtri(QUANTILES[1]) * np.sqrt(within))
    low = mean - np.hypot(normal, (share.value - share.low) * apart)
    return Interval(mean, float(max(0.0, low)), float(mean + np.hypot(normal, (share.high - share.value) * apart)))


def resampled_means(values_NQ: FloatArray, seed: int, n_resamples: int = N_RESAMPLES) -> FloatArray:
    """Means of Q columns under the bootstrap of rows, (n_resamples, Q).

    All columns see the same resamples, so any function of several means can be followed.
    """
    n, centre = len(values_NQ), values_NQ.mean(axis=0)
    deviations = (values_NQ - centre).astype(np.float32)  # their means are sampling noise, of which few digits matter
    means = np.empty((n_resamples, values_NQ.shape[1]))
    start = 0
    for counts in _resamples(n, seed, n_resamples):
        means[start : start + len(counts)] = centre + counts.astype(np.float32) @ deviations / n
        start += len(counts)
    return means


def _resamples(n: int, seed: int, n_resamples: int) -> Iterable[NDArray[np.uint8]]:
    """How often each of n rows is drawn, in blocks of (50, n); of small test sets those drawn last are kept.

    The runs of a sweep mostly test as many rows, and drawing them takes longer than all else that a metric does.
    """
    return _kept_resamples(n, seed, n_resamples) if n * n_resamples <= KEPT_BYTES else _draw(n, seed, n_resamples)


@functools.lru_cache(maxsize=2)
def _kept_resamples(n: int, seed: int, n_resamples: int) -> list[NDArray[np.uint8]]:
    return list(_draw(n, seed, n_resamples))


def _draw(n: int, seed: int, n_resamples: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    for start in range(0, n_resamples, 50):
        draws = (rng.integers(0, n, n) for _ in range(start, min(start + 50, n_resamples)))
        # A row drawn more than 255 times out of n is not to be seen in the life of the universe.
        yield np.stack([np.bincount(rows, minlength=n).astype(np.uint8) for rows in draws])


def percentile(value: float, replicates: FloatArray) -> Interval:
    """Percentile bootstrap: the middle 95 % of the replicates."""
    low, high = np.quantile(replicates, QUANTILES)
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def jackknife(value: float, derivative: FloatArray, floor: float = 0.0) -> Interval:
    """From the derivative of a statistic by the weight of each row, (N,): its variance is the sum of their squares.

    The infinitesimal jackknife: B. Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982. Between 0
    and 1 in Wilson's form; with another floor cut to floor..1.
    """
    if floor == 0:
        return between(value, derivative, float(len(derivative)))
    half = normal_half(derivative)
    return Interval(value, max(floor, value - half), min(1.0, value + half))


def normal_half(derivative: FloatArray) -> float:
    """Half-width of the normal interval of a statistic, from its derivative by row weight, (N,)."""
    return float(ndtri(QUANTILES[1]) * np.sqrt((derivative**2).sum()))


def between(value: float, derivative: FloatArray, n_least: float, n_seen: float = np.inf) -> Interval:
    """Wilson's interval of a statistic between 0 and 1, with the effective number of rows value (1 - value) / variance.

    The variance is that of the derivative, mixed with the largest possible, value (1 - value) / n_least, which stands
    for what no row has shown yet: it counts as much as `N_SUPPOSED` of the rows that have shown something.

    Args:
        value: The statistic.
        derivative: (N,) by row weight.
        n_least: Rows of which the statistic is a mean at the very least.
        n_seen: Rows from which the derivative comes.
    """
    variance, binomial = float((derivative**2).sum()), max(0.0, value * (1 - value))
    if binomial < EDGE or variance <= 0:
        return wilson(min(1.0, max(0.0, value)) * n_least, n_least)
    unseen = N_SUPPOSED / (n_seen + N_SUPPOSED)
    n = binomial / ((1 - unseen) * variance + unseen * binomial / n_least)
    return wilson(value * n, n)


def absolute_sum(values_NQ: FloatArray, means_BQ: FloatArray) -> Interval:
    """Sum over columns of |mean of the column|, such as a binned calibration error, from its resampled means.

    Chance pushes this sum up: where a mean is t standard errors s from zero, by s h(t), h(t) = E|t + Z| - t, largest
    at t = 0. The value is left as it is; the low end of its sampling interval is moved down by as much as the columns
    allow, each t taken 1.96 nearer to zero than it was found. So an interval that reaches 0 says: this may be chance.
    """
    replicates = np.abs(means_BQ).sum(axis=1)
    mean = np.abs(values_NQ.mean(axis=0))
    error = values_NQ.std(axis=0) / np.sqrt(len(values_NQ))
    t = np.divide(mean, error, where=error > 0, out=np.zeros_like(mean))
    t = np.clip(t - ndtri(QUANTILES[1]), 0, 40)
    push = error * (2 * np.exp(-t * t / 2) / np.sqrt(2 * np.pi) - 2 * t * ndtr(-t))
    value = float(mean.sum())
    low, high = value + np.quantile(replicates, QUANTILES) - replicates.mean()
    return Interval(value, float(max(0.0, low - push.sum())), float(max(high, value)))


def sums_of_groups(values: FloatArray, groups: IntArray | None) -> FloatArray:
    """(G, K) sums over the rows of each group of values (N, K); the values themselves without groups."""
    if groups is None:
        return values
    numbers = np.unique(groups, return_inverse=True)[1]
    found = np.zeros((numbers.max() + 1, values.shape[1]))
    np.add.at(found, numbers, values)
    return found
