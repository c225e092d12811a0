"""Pairs of systems on the same test rows and seeds: how well their differences are known, and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.leaderboard.seeds import LEVEL, FloatArray, Law, Spread, Variances, learn
from probe.leaderboard.statistics import Scores, column_variances, mcnemar, permutation, scattered

Pairs = tuple[NDArray[Any], NDArray[Any]]


def influences_by_seed(column: Sequence[Scores]) -> NDArray[np.float32]:
    """(S, seeds, N) influences of the systems, inflated as their variances, zero under seeds that a system has not."""
    names = {seed: i for i, seed in enumerate(sorted({seed for system in column for seed in system.seeds}))}
    table = np.zeros((len(column), len(names), column[0].n_rows), dtype=np.float32)
    for s, system in enumerate(column):
        table[s, [names[seed] for seed in system.seeds]] = system.influences * system.inflation**0.5
    return table


def pair_variances(
    column: Sequence[Scores], by_seed: NDArray[np.float32] | None = None, pairs: Pairs | None = None
) -> Variances:
    """Of the differences of pairs.

    Args:
        column: S systems.
        by_seed: Their `influences_by_seed`.
        pairs: Places (P,) of their first and second systems; by default all of them, and the result is (S, S).
    """
    by_seed = influences_by_seed(column) if by_seed is None else by_seed
    every = np.arange(len(column))
    a, b = pairs or (every[:, None], every[None, :])
    names = {seed: i for i, seed in enumerate(sorted({seed for system in column for seed in system.seeds}))}
    moves = np.zeros((len(column), len(names)))
    for s, system in enumerate(column):
        if (R := len(system.seeds)) > 1:
            scale = (system.inflation / (R * (R - 1))) ** 0.5
            moves[s, [names[seed] for seed in system.seeds]] = scale * (system.means - system.value)
    n_seeds = np.array([len(system.seeds) for system in column])
    R = np.minimum(n_seeds.take(a), n_seeds.take(b))
    constant = np.array([system.constant for system in column])
    # A zero is known only of two systems of which no row varies; others that agree by coincidence are not known.
    freedom = np.where(constant[a] & constant[b], 0, R - 1) if constant.any() else R - 1
    both = squared_distances(by_seed.sum(axis=1), (a, b))
    apart = squared_distances(by_seed.reshape(len(column), -1), (a, b))
    rest = np.maximum(0.0, R * apart - both) / np.maximum(1, R - 1) * (freedom > 0)
    seeds = squared_distances(moves, (a, b)) * (freedom > 0)
    if column[0].n_folds:
        freedom = scattered(seeds, rest, freedom)
    elif len(column) == 2 and apart.any():  # two that agree on every row under every seed are known to
        seeds, freedom = _alone(column, seeds, freedom, a != b)
    return Variances(both, rest, seeds, freedom)


def _alone(
    column: Sequence[Scores], seeds: FloatArray, freedom: NDArray[Any], differ: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[Any]]:
    """Scatter of the difference of two systems that no others tell of, by their own scatter.

    Seeds move two systems apart at most as far as the sum of their variances says, unless they move them in opposite
    directions; the sum has up to twice the degrees of freedom (Welch, "The generalization of Student's problem when
    several different population variances are involved", 1947). The larger of the sum and of what the difference
    itself shows is taken, so that neither seeds in common nor opposite ones call equal systems different.
    """
    own = column_variances(column)
    if not own.freedom.any():
        return seeds, freedom
    total = own.seeds.sum()
    parts = own.seeds**2 / np.maximum(own.freedom, 1)
    welch = total**2 / parts.sum() if total > 0 else own.freedom.sum()
    return np.maximum(seeds, total * differ), np.where(freedom > 0, welch * differ, freedom)


def pair_law(found: Variances) -> Law:
    """What all pairs of a column say of the scatter of their seeds; pairs of S systems count as S - 1."""
    upper = np.triu_indices(len(found.both), 1)
    return learn(found.at(upper), len(found.both) - 1.0)


def spread_alone(a: Scores, b: Scores) -> Spread:
    """Of the difference of two systems that no others tell of, under the seeds that both have."""
    found = pair_variances(_in_common(a, b)).at(np.triu_indices(2, 1))
    return learn(found, 1.0).spread(found)


def squared_distances(vectors: NDArray[Any], pairs: Pairs | None = None) -> FloatArray:
    """Squared distances of rows of (S, M), (P,) of some pairs or (S, S) of all; exactly zero for equal rows."""
    every = np.arange(len(vectors))
    a, b = pairs or (every[:, None], every[None, :])
    product = vectors @ vectors.T
    squares = np.diag(product).astype(np.float64)
    # Half a million pairs: `take` is five times as fast as an index of two arrays, and a factor as `np.where`.
    gram = (product if pairs is None else product.take(a * len(vectors) + b)).astype(np.float64)
    sums = squares.take(a) + squares.take(b)
    distances = sums - 2 * gram
    return np.maximum(distances * (distances > 1e-6 * sums), 0.0)


class PairTests:
    """The paired one-sided tests of all pairs of a column, with the seeds' scatter learnt from all pairs.

    Args:
        column: S systems.
        sign: 1 where more is better, else -1.
    """

    def __init__(self, column: Sequence[Scores], sign: float):
        upper = np.triu_indices(len(column), 1)
        self._upper = np.ravel_multi_index(upper, (len(column), len(column)))
        self._lower = np.ravel_multi_index(upper[::-1], (len(column), len(column)))
        self._found = pair_variances(column, pairs=upper)
        self._law = learn(self._found, len(column) - 1.0)
        means = sign * np.array([system.value for system in column])
        self._lead = means[:, None] - means[None, :]

    def better(self, *tails: float) -> list[NDArray[np.bool_]]:
        """(S, S) whether the system of the row is better than that of the column, at each one-sided level."""
        lead = self._lead.take(self._upper)
        found = []
        for told in self._law.exceeded(self._found, np.abs(lead), tails):
            better = np.zeros(self._lead.size, bool)
            better[self._upper], better[self._lower] = told & (lead > 0), told & (lead < 0)
            found.append(better.reshape(self._lead.shape))
        return found

    def ahead(self, systems: NDArray[Any], z: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Pairs of a system and one of `systems`, (P,) each, of which the first may be ahead by z standard errors."""
        first, place = np.nonzero(self._lead[:, systems] > 0)
        second = systems[place]
        errors = np.sqrt(self._found.both[self._places(first, second)])
        may_be = self._lead[first, second] >= z * (1 - 1e-9) * errors
        return first[may_be], second[may_be]

    def tail(self, first: NDArray[Any], second: NDArray[Any]) -> FloatArray:
        """(P,) one-sided p-values of pairs of which the first is ahead."""
        return self._law.spread(self._found.at(self._places(first, second))).tail(self._lead[first, second])

    def _places(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """Where pairs stand in the upper triangle."""
        low, high = np.minimum(a, b), np.maximum(a, b)
        return low * len(self._lead) - low * (low + 1) // 2 + high - low - 1


@dataclass(frozen=True)
class Difference:
    """A minus B on one dataset: same test rows, same seeds.

    Attributes:
        p: Two-sided, of the paired test that accounts for test rows and seeds.
        p_mcnemar: Of McNemar's test, for these trained heads; nan where the metric is not right or wrong per row.
        p_permutation: Of the test that swaps A and B row by row, for these trained heads.
        n_seeds: That both have.
        n_rows: That are tested.
        n_folds: Runs of which each seed's are folds; 0 where they are none.
    """

    value: float
    low: float
    high: float
    p: float
    p_mcnemar: float
    p_permutation: float
    n_seeds: int
    n_rows: int
    n_folds: int = 0


def difference(a: Scores, b: Scores) -> Scores:
    """A minus B under the seeds that both have, as scores of its own."""
    a, b = _in_common(a, b)
    return replace(
        a, means=a.means - b.means, influences=a.influences - b.influences, inflation=max(a.inflation, b.inflation)
    )


def _in_common(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """Both systems under the seeds that both have."""
    common = sorted(set(a.seeds) & set(b.seeds))
    first, second = (_under(system, common) for system in (a, b))
    return first, second


def _under(system: Scores, seeds: Sequence[int]) -> Scores:
    places = [system.seeds.index(seed) for seed in seeds]
    influences = system.influences[places] * (len(system.seeds) / max(1, len(seeds)))
    n_tested = tuple(system.n_tested[place] for place in places) if system.n_folds else ()
    return replace(system, seeds=tuple(seeds), means=system.means[places], influences=influences, n_tested=n_tested)


def compare(
    a: Scores, b: Scores, column: Sequence[Scores] | None = None, *, binary: bool, level: float = LEVEL, seed: int = 0
) -> Difference:
    """Paired comparison of two systems that have seeds in common.

    Args:
        a: One system.
        b: The other.
        column: All systems of their column, of which is learnt how much seeds scatter.
        binary: Whether the metric is right or wrong per row.
        level: Of the interval.
        seed: Of the permutations.
    """
    paired, half, p = difference_tested(a, b, column, level)
    row_values = paired.by_row()
    p_mcnemar = mcnemar(row_values) if binary else float("nan")
    p_permutation = permutation(row_values.mean(axis=0), seed=seed)
    n_folds = len(paired.seeds) if paired.n_folds else 0
    low, high, n_seeds = paired.value - half, paired.value + half, len(row_values)
    return Difference(paired.value, low, high, p, p_mcnemar, p_permutation, n_seeds, paired.n_rows, n_folds)


def difference_tested(
    a: Scores, b: Scores, column: Sequence[Scores] | None, level: float = LEVEL
) -> tuple[Scores, float, float]:
    """The difference of two systems, half the width of its interval, and the p of the test for rows and seeds."""
    paired = difference(a, b)
    if column is None or len(column) == 2:
        spread = spread_alone(a, b)
    else:
        spread = pair_law(pair_variances(column)).spread(column_variances([paired]))
    (half,), (p_one_side,) = spread.margin(level), spread.tail(np.abs([paired.value]))
    return paired, float(half), min(1.0, 2 * float(p_one_side))
