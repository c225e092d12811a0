"""Ranks with bounds: which systems of a table can be told apart, all pairs considered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.leaderboard.pairs import influences_by_seed, pair_law, pair_variances, squared_distances
from probe.leaderboard.seeds import LEVEL, FloatArray
from probe.leaderboard.statistics import Scores, spread

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
    `compare`, with the seeds' scatter learnt from all pairs (`seeds`). A rank starts behind the systems that are
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
    means = sign * np.array([system.value for system in column])
    by_seed = influences_by_seed(column)
    found = pair_variances(column, by_seed)
    lead = means[:, None] - means[None, :]
    upper = np.triu_indices(len(column), 1)
    p = np.full(lead.shape, 0.5)
    p[upper] = p.T[upper] = pair_law(found).spread(found.at(upper)).tail(np.abs(lead[upper]))
    draws = resample(sign * by_seed.sum(axis=1), spread(column).added, n_resamples, rng)
    return _Pairs(np.where(lead > 0, p, 1 - p), _largest_leads(*draws))


def resample(
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
    errors = np.sqrt(squared_distances(influences) + seeds[:, None] + seeds[None, :])
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
    # Never easier than the test of one pair, so that what is told apart here is different for `compare` too.
    least = float(ndtri((1 + level) / 2))
    better = pairs.leads <= float(ndtr(-max(all_pairs, least)))
    one_side = ndtr(-np.maximum(np.quantile(pairs.largest, level, axis=0), least))
    low = 1 + better.sum(axis=0)
    high = len(pairs.leads) - better.sum(axis=1)
    return Ranking(~(pairs.leads <= one_side[None, :]).any(axis=0), low, high)
