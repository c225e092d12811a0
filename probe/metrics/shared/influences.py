"""Intervals of statistics from what each row adds to them, rows of a group taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from probe.core.base import IntArray
from probe.metrics.shared.intervals import QUANTILES, FloatArray, Interval

EDGE = 1e-12
Scale = tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]
"""A scale on which a statistic is nearly normal: there, back, and the slope of the way there."""

PLAIN: Scale = (lambda v: v, lambda v: v, lambda v: 1.0)
LOGARITHM: Scale = (np.log, np.exp, lambda v: 1 / v)
SHARE_LEFT: Scale = (lambda v: -np.log(1 - v), lambda z: 1 - np.exp(-z), lambda v: 1 / (1 - v))
"""Of R2 = 1 - A / B: of the ratio A / B the logarithm."""
FISHER: Scale = (np.arctanh, np.tanh, lambda v: 1 / (1 - v**2))
"""Of correlations. Source: R. A. Fisher, "On the probable error of a coefficient of correlation", 1921."""


def studentized(value: float, derivative: FloatArray, groups: IntArray | None, scale: Scale = PLAIN) -> Interval:
    """Interval of a statistic on a scale, Student's with one degree of freedom less than there are rows, or groups.

    The variance is the sum over the groups of the squared sum of the derivatives of their rows, times G / (G - 1): the
    infinitesimal jackknife, where groups are what was drawn. At the end of a scale, such as a perfect correlation, it
    has no width; with one group it has no end.

    Args:
        value: The statistic.
        derivative: (N,) by the weight of each row.
        groups: (N,) numbers of the groups, or None.
        scale: Where it is nearly normal.
    """
    there, back, slope = scale
    parts = derivative if groups is None else np.bincount(groups, weights=derivative)[np.unique(groups)]
    n = len(parts)
    with np.errstate(divide="ignore", over="ignore"):
        steepness = slope(np.float64(value))
        if n < 2:  # whose derivatives sum to 0, which is no lack of spread
            return Interval(value, -np.inf, np.inf)
        if not np.isfinite(steepness) or not (parts**2).sum() > EDGE**2 * value**2:
            return Interval(value, value, value)
        half = stdtrit(n - 1, QUANTILES[1]) * steepness * np.sqrt((parts**2).sum() * n / (n - 1))
        low, high = (float(back(there(value) + sign * half)) for sign in (-1, 1))
    return Interval(value, min(low, value), max(high, value))


def above(values: NDArray[Any], weights: FloatArray) -> FloatArray:
    """(N,) sum of the weights of the rows with a larger value, and half of those with an equal one."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values[order]) != 0]))
    sums = np.add.reduceat(weights[order], starts)
    rest = sums.sum() - np.cumsum(sums) + sums / 2
    found = np.empty(len(values))
    found[order] = np.repeat(rest, np.diff(np.append(starts, len(values))))
    return found


def concordance(x: NDArray[Any], y: NDArray[Any]) -> FloatArray:
    """(N,) rows on the same side of each row in x and in y, less those on different sides; ties count nothing."""
    same = _both_below(x, y) + _both_below(-x, -y)
    return (same - _both_below(x, -y) - _both_below(-x, y)).astype(np.float64)


def _both_below(x: NDArray[Any], y: NDArray[Any]) -> IntArray:
    """(N,) rows with a smaller x and a smaller y, by merging sorted halves of the rows in the order of x."""
    n = len(x)
    order = np.lexsort((-y, x))  # of equal x the larger y first: none of them is below another
    rank = np.unique(y[order], return_inverse=True)[1].astype(np.int64)
    found, width = np.zeros(n, dtype=np.int64), 1
    places = np.arange(n)
    while width < n:
        block, in_right = places // (2 * width), places // width % 2
        # In each block, a row of the right half counts the rows of the left half with a smaller y.
        by_rank = np.lexsort((-in_right, rank, block))
        left = np.cumsum(1 - in_right[by_rank])
        first = np.flatnonzero(np.concatenate([[True], np.diff(block[by_rank]) != 0]))
        before = np.repeat(left[first] - (1 - in_right[by_rank][first]), np.diff(np.append(first, n)))
        found[by_rank] += in_right[by_rank] * (left - before)
        width *= 2
    counts = np.empty(n, dtype=np.int64)
    counts[order] = found
    return counts
