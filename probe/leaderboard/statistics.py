"""Scores that come from one test set and a few seeds, with their intervals.

Model of the value x of test row i under seed r: x_ir = truth + row_i + seed_r + rest_ir. All seeds are scored on the
same test rows, so more seeds do not make the test set larger. With N rows and R seeds the mean has the variance
row² / N + seed² / R + rest² / (N R), in two shares that are estimated apart:

- rows: row² / N, from the spread of the row means over rows, less rest; many degrees of freedom
- seeds: seed² / R + rest² / (N R), from the spread of the seed means over seeds; R - 1 degrees of freedom

The seeds' share of a system alone is known as badly as its degrees of freedom say, and its interval is wide
(Behrens-Fisher: the error is a normal plus a Student's t); what all systems of a column say of it together is brought
in by `seeds`. Of one seed only the share of the rows is known.

The folds of a cross-validation are one system: each tests rows of its own, and trains on those of the others, so that
neither the scatter of the folds nor that of the rows tells how a new draw of training rows would move them all. As in
the corrected resampled t-test (Nadeau and Bengio, "Inference for the generalization error", 2003) the variance grows by
the share of rows tested to rows learnt from: with N rows tested of which n are learnt from at a time, by 1 + N / n.
What is corrected is the variance of the rows, which is known far better than that of five means; where the folds
scatter significantly more than their rows, as those of patients may, they count as seeds do.

Everything is computed from influences: how far row i under seed r moves the mean, (x_ir - mean_r) / (N_r R), zero for
rows that a seed does not test. This serves any metric with values per row, and seeds with test rows of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, chdtrc, ndtr, ndtri

from probe.leaderboard.seeds import LEVEL, TINY, FloatArray, Spread, Variances, learn

CHUNK_VALUES = 2**16
"""Of many systems at once: what the caches of a core hold."""
OUTLIERS = 0.2
"""Share of the systems of a column whose seeds may scatter in a way of their own."""


@dataclass(frozen=True)
class Scores:
    """One system on one dataset.

    Attributes:
        seeds: R seeds, ascending; of folds the numbers seed * n_folds + fold.
        means: (R,) the metric under each seed.
        influences: (R, N) influence of each test row on the mean over seeds; the rows are those of the whole column.
        n_tested: R numbers of test rows; only of folds.
        n_folds: Of a seed; 0 where runs are no folds.
        inflation: What all variances are multiplied by, since folds learn from each other's test rows.
    """

    seeds: tuple[int, ...]
    means: FloatArray
    influences: FloatArray
    n_tested: tuple[int, ...] = ()
    n_folds: int = 0
    inflation: float = 1.0

    @cached_property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.means.mean())

    @property
    def n_rows(self) -> int:
        """Number of test rows of the column."""
        return self.influences.shape[1]

    @cached_property
    def constant(self) -> bool:
        """Whether no row varies with the seed."""
        return bool((self.influences == self.influences[0]).all() and (self.means == self.means[0]).all())

    @cached_property
    def variance(self) -> Variance:
        """Of the mean over seeds."""
        R = len(self.means)
        both = self.inflation * float((self.influences.sum(axis=0) ** 2).sum())
        if R < 2:
            return Variance(both, 0.0, 0.0)
        rest = max(0.0, (R * self.inflation * float((self.influences**2).sum()) - both) / (R - 1))
        return Variance(max(0.0, both - rest), self.inflation * float(self.means.var(ddof=1)) / R, rest)

    def by_row(self) -> FloatArray:
        """(seeds, N) values of the rows under each seed; all folds of a seed together, 0 where a row was not tested."""
        R = len(self.means)
        if not self.n_folds:
            return self.influences * (R * self.n_rows) + self.means[:, None]
        # Rows that a fold does not test move nothing.
        scale = R * np.array(self.n_tested)[:, None]
        values = np.where(self.influences != 0, self.influences * scale + self.means[:, None], 0.0)
        seeds = np.array(self.seeds) // self.n_folds
        return np.stack([values[seeds == seed].sum(axis=0) for seed in np.unique(seeds)])


@dataclass(frozen=True)
class Variance:
    """Variance of a mean over seeds: the share of the rows, that of the seeds, and the rest within the latter."""

    rows: float
    seeds: float
    rest: float


def scores(
    values: Sequence[FloatArray],
    rows: Sequence[NDArray[Any]] | None,
    seeds: Sequence[int],
    n_rows: int,
    n_folds: int = 0,
    n_learnt: float = np.inf,
) -> Scores:
    """Gathers the row values of a system's runs, one array per seed, or per seed and fold.

    Args:
        values: R arrays (N_r,), values of the test rows.
        rows: R arrays (N_r,), their places 0..n_rows-1 in the column; None where all runs test the same rows in order.
        seeds: R seeds; of folds seed * n_folds + fold.
        n_rows: Number of distinct test rows in the column.
        n_folds: Of a seed; 0 where runs are no folds.
        n_learnt: Rows that one fold learns from.
    """
    order = np.argsort(seeds, kind="stable")
    if rows is None and not n_folds:
        table = np.asarray(values)[order]
        means = table.mean(axis=1)
        shares = (table - means[:, None]) / table.size
        return Scores(tuple(int(seeds[i]) for i in order), means, shares)
    rows = [np.arange(n_rows)] * len(values) if rows is None else rows
    influences = np.zeros((len(values), n_rows))
    for place, run in enumerate(order):
        share = (values[run] - values[run].mean()) / (len(values[run]) * len(values))
        influences[place, rows[run]] = share
    found = Scores(tuple(int(seeds[i]) for i in order), np.array([values[i].mean() for i in order]), influences)
    if not n_folds:
        return found
    n_tested = len(np.unique(np.concatenate(list(rows))))
    sizes = tuple(len(values[i]) for i in order)
    if sum(sizes) > n_tested * len({int(seed) // n_folds for seed in seeds}):
        return found  # all folds test the same rows, those of another dataset: no fold learns from them
    return replace(found, n_tested=sizes, n_folds=n_folds, inflation=1 + n_tested / n_learnt)


def scores_of_systems(values: Sequence[Sequence[FloatArray]], seeds: Sequence[Sequence[int]]) -> list[Scores]:
    """`scores` of systems whose runs all test the same rows in order and are no folds.

    Args:
        values: Of each system R arrays (N,).
        seeds: Of each system R seeds.
    """
    found: list[Scores | None] = [None] * len(values)
    for n_seeds in {len(of_system) for of_system in seeds}:
        places = [i for i, of_system in enumerate(seeds) if len(of_system) == n_seeds]
        step = max(1, CHUNK_VALUES // (n_seeds * len(values[places[0]][0])))
        for start in range(0, len(places), step):
            part = places[start : start + step]
            for i, one in zip(part, _alike([values[i] for i in part], [seeds[i] for i in part]), strict=True):
                found[i] = one
    return [one for one in found if one is not None]


def _alike(values: Sequence[Sequence[FloatArray]], seeds: Sequence[Sequence[int]]) -> list[Scores]:
    """Scores of systems with as many seeds each, and what a column asks of them, which takes as long one by one."""
    order = np.argsort(np.array(seeds), axis=1, kind="stable")
    table = np.array([[of_system[run] for run in runs] for of_system, runs in zip(values, order.tolist(), strict=True)])
    means = table.mean(axis=2)
    table -= means[:, :, None]
    table /= table[0].size
    n_systems, R, _ = table.shape
    both = (table.sum(axis=1) ** 2).sum(axis=1)
    constant = (table == table[:, :1]).all(axis=(1, 2)) & (means == means[:, :1]).all(axis=1)
    squares = (table**2).reshape(n_systems, -1).sum(axis=1)
    rest = np.maximum(0.0, (R * squares - both) / max(1, R - 1))  # 0 of one seed
    variances = np.maximum(0.0, both - rest), means.var(axis=1, ddof=min(1, R - 1)) / R, rest
    facts = zip(means.mean(axis=1).tolist(), constant.tolist(), *(of_all.tolist() for of_all in variances), strict=True)
    found = []
    for own, runs, of_system, shares, told in zip(seeds, order.tolist(), means, table, facts, strict=True):
        system = Scores(tuple(int(own[run]) for run in runs), of_system, shares)
        value, is_constant, *of_mean = told
        vars(system).update(value=value, constant=is_constant, variance=Variance(*of_mean))
        found.append(system)
    return found


def column_variances(column: Sequence[Scores]) -> Variances:
    """Of the means of the systems of a column."""
    found = [system.variance for system in column]
    freedom = np.array([0 if system.constant else len(system.seeds) - 1 for system in column])
    both, rest = np.array([v.rows + v.rest for v in found]), np.array([v.rest for v in found])
    seeds = np.array([v.seeds for v in found])
    of_folds = np.array([system.n_folds > 0 for system in column])
    return Variances(both, rest, seeds, np.where(of_folds, scattered(seeds, rest, freedom), freedom))


def scattered(seeds: FloatArray, rest: FloatArray, freedom: NDArray[Any]) -> NDArray[Any]:
    """The degrees of freedom of folds; 0 where their means scatter as rows alone would have them (chi-square, 1 %)."""
    return np.where(chdtrc(freedom, freedom * seeds / np.maximum(rest, TINY)) < 0.01, freedom, 0)


def spread(column: Sequence[Scores]) -> Spread:
    """Variances of the means of a column, moderated: each learns from the others how much seeds scatter."""
    found = column_variances(column)
    return learn(found, _independent(column, found), OUTLIERS).spread(found)


def _independent(column: Sequence[Scores], found: Variances) -> float:
    """How many systems with independent seeds say as much of the scatter as these do.

    A seed's draw of training rows may move all alike; at a mean correlation c they count as S / (1 + (S - 1) c²).
    """
    moving = [(system, rest) for system, rest, f in zip(column, found.rest, found.freedom, strict=True) if f > 0]
    if len(moving) < 2:
        return float(len(moving))
    names = {seed: place for place, seed in enumerate(sorted({seed for system, _ in moving for seed in system.seeds}))}
    moves = np.zeros((len(moving), len(names)))
    for move, (system, rest) in zip(moves, moving, strict=True):
        move[[names[seed] for seed in system.seeds]] = (system.means - system.value) / np.sqrt(rest or 1.0)
    own = float((moves**2).sum())
    shared = (float((moves.sum(axis=0) ** 2).sum()) / own - 1) / (len(moving) - 1) if own > 0 else 0.0
    return len(moving) / (1 + (len(moving) - 1) * max(0.0, shared) ** 2)


def intervals(
    column: Sequence[Scores], *, proportion: bool = False, level: float = LEVEL
) -> tuple[FloatArray, FloatArray]:
    """Bounds of the S means of a column, (S,) each; for proportions Wilson's with the effective number of rows.

    Wilson's interval of a proportion p from n rows stays inside 0..1 and has width where no row is wrong. Seeds, and
    rows that vary together, leave n = p (1 - p) / V effective rows (the idea of Korn and Graubard, "Confidence
    intervals for proportions with small expected number of positive counts", 1998).
    """
    p = np.array([system.value for system in column])
    variances = spread(column)
    half = variances.margin(level)
    if not proportion:
        return p - half, p + half
    V, binomial = variances.known + variances.added, np.maximum(0.0, p * (1 - p))
    known = (V > 0) & (binomial > 0)
    q = np.divide(half, np.sqrt(V), out=np.full(len(p), ndtri((1 + level) / 2)), where=V > 0)
    n_rows = np.array([float(system.n_rows) for system in column])
    n = np.divide(binomial, V, out=n_rows, where=known)
    centre = (p + q * q / (2 * n)) / (1 + q * q / n)
    half = q / (1 + q * q / n) * np.sqrt(binomial / n + q * q / (4 * n * n))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def mcnemar(differences: FloatArray) -> float:
    """Two-sided p-value that A and B are right equally often, from (R, N) differences in {-1, 0, 1}.

    One seed: the mid-p test on the rows where only one of the two is right (Fagerland, Lydersen and Laake, "The
    McNemar test for binary matched-pairs data", 2013). Several seeds: the rows are clusters of R pairs (Durkalski,
    Palesch, Lipsitz and Rust, "Analysis of clustered matched-pair data", 2003), chi-square with one degree of freedom.
    """
    signs = np.rint(differences)
    if len(signs) > 1:
        per_row = signs.sum(axis=0)
        squared = float((per_row**2).sum())
        return float(2 * ndtr(-abs(float(per_row.sum())) / squared**0.5)) if squared else 1.0
    wins, losses = int((signs > 0).sum()), int((signs < 0).sum())
    fewer, n = min(wins, losses), wins + losses
    if n == 0 or wins == losses:
        return 1.0
    at_most, fewer_still = float(bdtr(fewer, n, 0.5)), float(bdtr(fewer - 1, n, 0.5)) if fewer else 0.0
    return min(1.0, at_most + fewer_still)


def permutation(differences: FloatArray, *, n_draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of the mean of (N,) differences when each sign is as likely as its opposite.

    The observed order counts among the draws, so that p is never zero. Rows without a difference change no sum.
    """
    moving = differences[differences != 0].astype(np.float32)
    if len(moving) == 0:
        return 1.0
    rng = np.random.default_rng(seed)
    observed, reached = abs(float(moving.sum())) * (1 - 1e-5), 1
    step = max(1, 2**22 // len(moving))
    for start in range(0, n_draws, step):
        n = min(step, n_draws - start)
        bits = np.unpackbits(rng.integers(0, 256, size=(n, -(-len(moving) // 8)), dtype=np.uint8), axis=1)
        sums = 2 * (bits[:, : len(moving)].astype(np.float32) @ moving) - moving.sum()
        reached += int((np.abs(sums) >= observed).sum())
    return reached / (n_draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values ("A simple sequentially rejective multiple test procedure", 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted.tolist()
