"""Ranks with bounds: which systems of a table can be told apart, all pairs considered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.leaderboard.leads import Leads, resample
from probe.leaderboard.pairs import PairTests, influences_by_seed
from probe.leaderboard.seeds import LEVEL
from probe.leaderboard.statistics import Scores, spread

N_RESAMPLES = 1000


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
    sign = 1.0 if higher_is_better else -1.0
    largest = np.zeros(n_resamples, np.float32)
    leads = []
    for column in columns:
        leads.append(_leads(column, sign, n_resamples, rng))
        leads[-1].raise_largest(largest, level)
    # Never easier than the test of one pair, so that what is told apart here is different for `compare` too.
    all_pairs = max(float(np.quantile(largest, level)), float(ndtri((1 + level) / 2)))
    return [
        _ranking(column, of_column, sign, all_pairs, level) for column, of_column in zip(columns, leads, strict=True)
    ]


def _leads(column: Sequence[Scores], sign: float, n_resamples: int, rng: np.random.Generator) -> Leads:
    influences = sign * influences_by_seed(column).sum(axis=1)
    deviations, errors = resample(influences, spread(column).added, n_resamples, rng)
    return Leads(deviations, errors, np.array([system.value for system in column]))


def _ranking(column: Sequence[Scores], leads: Leads, sign: float, all_pairs: float, level: float) -> Ranking:
    tests = PairTests(column, sign)
    better = tests.better(float(ndtr(-all_pairs)))
    return Ranking(
        ~(better.any(axis=0) | _behind(tests, leads, better, level)),
        1 + better.sum(axis=0),
        len(column) - better.sum(axis=1),
    )


def _behind(tests: PairTests, leads: Leads, better: NDArray[np.bool_], level: float) -> NDArray[np.bool_]:
    """(S,) whether some system is better than one at the level of this one alone; of those that `better` does not tell.

    That level is never stricter than the one of all pairs, and never easier than that of one pair: only what lies
    between them has to be looked at.
    """
    least = float(ndtri((1 + level) / 2))
    open_to_doubt = np.flatnonzero(~better.any(axis=0))
    found = np.zeros(len(better), bool)
    ahead, behind = tests.ahead(open_to_doubt, least)
    smallest = np.ones(len(better))
    np.minimum.at(smallest, behind, tests.tail(ahead, behind))
    for system in np.unique(behind):
        for low, high in leads.quantiles_over(system, level):
            found[system] = smallest[system] <= ndtr(-np.maximum(high, least))
            if found[system] or smallest[system] > ndtr(-np.maximum(low, least)):
                break
    return found
