"""A number with the 95 % interval that sampling the test rows leaves it.

None of them covers what another training draw or seed would change: repeat the run for that.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

FloatArray = NDArray[np.float64]

LEVEL = 0.95
N_RESAMPLES = 1000
KEPT_BYTES = 2**26
QUANTILES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval, low <= value <= high."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Share of successes with Wilson's score interval.

    Has width at 0 and at n too, and covers well from small n on. Source: E. B. Wilson, "Probable Inference, the Law of
    Succession, and Statistical Inference", 1927; recommended by Brown, Cai and DasGupta, 2001.
    """
    z2 = float(ndtri((1 + level) / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(share, float(min(max(0.0, centre - half), share)), float(max(min(1.0, centre + half), share)))


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

    The infinitesimal jackknife: B. Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982. Cut to
    floor..1.
    """
    half = float(ndtri(QUANTILES[1]) * np.sqrt((derivative**2).sum()))
    return Interval(value, max(floor, value - half), min(1.0, value + half))


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
