"""Ranks with bounds: which systems of a table can be told apart, all pairs considered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, ndtr, ndtri, polygamma

from probe.leaderboard.statistics import LEVEL, MANY, FloatArray, Scores, tail

N_RESAMPLES = 1000
BLOCK = 2**20
"""Counts of resampled rows at once: few and large products, since threads of small ones wait for each other."""


@dataclass(frozen=True)
class Ranking:
    """Which systems of one column can be told apart.

    Attributes:
        maybe_best: (S,) no other system is significantly better: the best, and those not distinguishable from it.
        low, high: (S,) bounds of the rank, 1 = best.
    """

    maybe_best: NDArray[np.bool_]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(frozen=True)
class _Pairs:
    """All pairs of systems of one column."""

    leads: FloatArray
    """(S, S) one-sided p-value that the system of the row is better than that of the column."""
    largest: NDArray[np.float32]
    """(B, S) in each resample, the largest standardised lead of any system over this one."""


def rank(
    columns: Sequence[Sequence[Scores]],
    *,
    higher_is_better: bool = True,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[Ranking]:
    """Ranks of the systems in each column, with bounds that hold for all systems and columns at once.

    Test rows are resampled with replacement, the same rows for all systems of a column (paired), and seeds by a normal
    draw for each system. The resamples give the level at which each pair has to be tested so that with probability
    `level` no pair of any column is wrongly told apart; each pair is then tested at this level by the paired test of
    `compare`, with the seeds' variances of all pairs `moderated`. A rank starts behind the systems that are
    significantly better and ends before those that are significantly worse (Mogstad, Romano, Shaikh and Wilhelm,
    "Inference for Ranks with Applications to Mobility across Neighborhoods and Academic Achievement across Countries",
    2020; here one step, without their step-down).
    `maybe_best` asks less, one side and one column at a time: the level of a system comes from the largest lead of
    any other system over it (comparison with the best: Hsu, "Constrained simultaneous confidence intervals for
    multiple comparisons with the best", 1984).
    """
    rng = np.random.default_rng(seed)
    pairs = [_pairs(column, 1.0 if higher_is_better else -1.0, n_resamples, rng) for column in columns]
    all_pairs = np.max([column.largest.max(axis=1) for column in pairs], axis=0)
    return [_ranking(column, float(np.quantile(all_pairs, level)), level) for column in pairs]


def _pairs(column: Sequence[Scores], sign: float, n_resamples: int, rng: np.random.Generator) -> _Pairs:
    n_rows = column[0].n_rows
    names = sorted({seed for system in column for seed in system.seeds})
    n_seeds = np.array([len(system.seeds) for system in column])
    means = sign * np.array([system.value for system in column])
    by_seed = np.zeros((len(column), len(names), n_rows), dtype=np.float32)
    spread = np.zeros((len(column), len(names)))
    for s, system in enumerate(column):
        places = [names.index(seed) for seed in system.seeds]
        by_seed[s, places] = sign * system.influences
        if len(places) > 1:
            spread[s, places] = sign * (system.means - system.value) / (len(places) * (len(places) - 1)) ** 0.5
    influences = by_seed.sum(axis=1)
    R = np.minimum(n_seeds[:, None], n_seeds[None, :])
    both, seeds = _squared_distances(influences), _squared_distances(spread) * (R > 1)
    rest = (R * _squared_distances(by_seed.reshape(len(column), -1)) - both) / np.maximum(1, R - 1)
    rows = np.where(R > 1, np.maximum(0.0, both - np.maximum(0.0, rest)), both)
    lead = means[:, None] - means[None, :]
    seeds, freedom = moderated(
        seeds, R - 1, float(((n_seeds - 1) * (spread != 0).any(axis=1)).sum()) * (1 - 1 / len(column))
    )
    upper = np.triu_indices(len(column), 1)
    p = np.full(lead.shape, 0.5)
    p[upper] = p.T[upper] = tail(np.abs(lead[upper]), rows[upper], seeds[upper], freedom[upper])
    added = np.array([max(0.0, variance.seeds - variance.rest) for variance in (system.variance for system in column)])
    draws = _resample(influences, added, n_resamples, rng)
    return _Pairs(np.where(lead > 0, p, 1 - p), _largest_leads(*draws))


def moderated(variances: FloatArray, freedom: NDArray[Any], pooled: float) -> tuple[FloatArray, FloatArray]:
    """Variances of many pairs, each drawn towards their common size as far as they agree; and degrees of freedom.

    Two or three seeds say little of one pair's variance, but all pairs together say what to expect: with a prior
    1 / s² ~ chi-square(d0) / (d0 s0²), fitted to the pairs, s² becomes (d0 s0² + d s²) / (d0 + d) with d0 + d degrees
    of freedom, at most those of all seeds. Where pairs disagree, d0 is small and each keeps its own. Pairs without
    variance stay so. Source: Smyth, "Linear models and empirical Bayes methods for assessing differential expression
    in microarray experiments", 2004.

    Args:
        variances: (S, S), symmetric.
        freedom: (S, S) degrees of freedom of each, 0 where nothing is known.
        pooled: Degrees of freedom of all systems together.
    """
    known = np.triu((variances > 0) & (freedom > 0), 1)
    if known.sum() < 3:
        return variances, freedom
    half = freedom[known] / 2
    logs = np.log(variances[known]) - digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - polygamma(1, half).mean())
    d0 = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
    if d0 < MANY:
        size = np.exp(logs.mean() + digamma(d0 / 2) - np.log(d0 / 2))
        drawn = (d0 * size + freedom * variances) / (d0 + freedom)
    else:
        drawn = np.full_like(variances, np.exp(logs.mean()))
    moved = (variances > 0) & (freedom > 0)
    degrees = np.maximum(freedom, np.minimum(d0 + freedom, pooled))
    return np.where(moved, drawn, variances), np.where(moved, degrees, freedom)


def _inverse_trigamma(value: float) -> float:
    """The y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma, which is convex and nearly linear."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if abs(step) < 1e-10 * y:
            break
    return y


def _squared_distances(vectors: NDArray[Any]) -> FloatArray:
    """(S, S) squared distances of the rows of (S, M); exactly zero for equal rows."""
    gram = (vectors @ vectors.T).astype(np.float64)
    squares = np.diag(gram)
    distances = squares[:, None] + squares[None, :] - 2 * gram
    return np.where(distances > 1e-6 * (squares[:, None] + squares[None, :]), distances, 0.0)


def _resample(
    influences: NDArray[Any], seeds: FloatArray, n_resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B, S) deviations of the systems' means from their values, and (S, S) standard errors of their differences.

    Args:
        influences: (S, N) of the test rows on the means over seeds.
        seeds: (S,) variance that seeds add to that of the rows.
        n_resamples: B.
        rng: Of the resamples.
    """
    n_systems, n_rows = influences.shape
    deviations = rng.standard_normal((n_resamples, n_systems), dtype=np.float32) * np.sqrt(seeds).astype(np.float32)
    step = min(n_resamples, max(1, BLOCK // n_rows))
    offsets = np.arange(step, dtype=np.int32)[:, None] * np.int32(n_rows)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        drawn = rng.integers(0, n_rows, size=(n, n_rows), dtype=np.int32) + offsets[:n]
        counts = np.bincount(drawn.ravel(), minlength=n * n_rows).reshape(n, n_rows).astype(np.float32)
        # Influences sum to zero, so counts and counts - 1 give the same deviation.
        deviations[start : start + n] += counts @ influences.T
    errors = np.sqrt(_squared_distances(influences) + seeds[:, None] + seeds[None, :])
    return deviations, errors.astype(np.float32)


def _largest_leads(deviations: NDArray[np.float32], errors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, S) largest standardised lead of any other system over each."""
    deviations = np.ascontiguousarray(deviations.T)
    largest = np.zeros_like(deviations)
    inverse = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0)
    for s in range(len(deviations) - 1):
        leads = deviations[s + 1 :] - deviations[s]
        leads *= inverse[s + 1 :, s, None]
        np.maximum(largest[s], leads.max(axis=0), out=largest[s])
        # The lead of s over each of the others is the opposite.
        np.maximum(largest[s + 1 :], np.negative(leads, out=leads), out=largest[s + 1 :])
    return largest.T


def _ranking(pairs: _Pairs, all_pairs: float, level: float) -> Ranking:
    better = pairs.leads <= float(ndtr(-max(all_pairs, float(ndtri((1 + level) / 2)))))
    one_side = ndtr(-np.maximum(np.quantile(pairs.largest, level, axis=0), ndtri(level)))
    low = 1 + better.sum(axis=0)
    high = len(pairs.leads) - better.sum(axis=1)
    return Ranking(~(pairs.leads <= one_side[None, :]).any(axis=0), low, high)
