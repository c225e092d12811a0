"""Intervals and tests for scores that come from one test set and a few seeds.

Model of the value x of test row i under seed r: x_ir = truth + row_i + seed_r + rest_ir. All seeds are scored on the
same test rows, so more seeds do not make the test set larger. With N rows and R seeds the mean has the variance
row² / N + seed² / R + rest² / (N R), in two shares that are estimated apart:

- rows: row² / N, from the spread of the row means over rows, less rest; many degrees of freedom
- seeds: seed² / R + rest² / (N R), from the spread of the seed means over seeds; R - 1 degrees of freedom

The error of the mean is then taken as sqrt(rows) z + sqrt(seeds) t with z normal and t Student's with R - 1 degrees of
freedom (the Behrens-Fisher distribution), so that two or three seeds get the wide tails that they deserve: exact where
one share rules, a little conservative between. Of one seed only the share of the rows is known.

Everything is computed from influences: how far row i under seed r moves the mean, (x_ir - mean_r) / (N_r R), zero for
rows that a seed does not test. This serves any metric with values per row, and seeds with test rows of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaincinv, ndtr, ndtri

FloatArray = NDArray[np.float64]
LEVEL = 0.95
MANY = 1000.0
"""From so many degrees of freedom on, Student's t counts as normal."""


@dataclass(frozen=True)
class Scores:
    """One system on one dataset.

    Attributes:
        seeds: R seeds, ascending.
        means: (R,) the metric under each seed.
        influences: (R, N) influence of each test row on the mean over seeds; the rows are those of the whole column.
    """

    seeds: tuple[int, ...]
    means: FloatArray
    influences: FloatArray

    @cached_property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.means.mean())

    @property
    def n_rows(self) -> int:
        """Number of test rows of the column."""
        return self.influences.shape[1]

    @cached_property
    def variance(self) -> Variance:
        """Of the mean over seeds."""
        R = len(self.means)
        both = float((self.influences.sum(axis=0) ** 2).sum())
        if R < 2:
            return Variance(both, 0.0, 0.0)
        rest = max(0.0, (R * float((self.influences**2).sum()) - both) / (R - 1))
        return Variance(max(0.0, both - rest), float(self.means.var(ddof=1)) / R, rest)


@dataclass(frozen=True)
class Variance:
    """Variance of a mean over seeds: the share of the rows, that of the seeds, and the rest within the latter."""

    rows: float
    seeds: float
    rest: float


def scores(
    values: Sequence[FloatArray], rows: Sequence[NDArray[Any]] | None, seeds: Sequence[int], n_rows: int
) -> Scores:
    """Gathers the row values of a system's runs, one array per seed.

    Args:
        values: R arrays (N_r,), values of the test rows.
        rows: R arrays (N_r,), their places 0..n_rows-1 in the column; None where all runs test the same rows in order.
        seeds: R seeds.
        n_rows: Number of distinct test rows in the column.
    """
    order = np.argsort(seeds, kind="stable")
    if rows is None:
        table = np.asarray(values)[order]
        means = table.mean(axis=1)
        shares = (table - means[:, None]) / table.size
        return Scores(tuple(int(seeds[i]) for i in order), means, shares)
    influences = np.zeros((len(values), n_rows))
    for place, run in enumerate(order):
        share = (values[run] - values[run].mean()) / (len(values[run]) * len(values))
        influences[place, rows[run]] = share
    return Scores(tuple(int(seeds[i]) for i in order), np.array([values[i].mean() for i in order]), influences)


@cache
def _nodes(freedom: float) -> tuple[FloatArray, FloatArray]:
    """Values of f / chi-square with f degrees of freedom, and their probabilities: trapezoids on a log scale."""
    if not 0 < freedom < MANY:
        return np.ones(1), np.ones(1)
    ends = np.log(gammaincinv(freedom / 2, np.array([1e-10, 1 - 1e-10])))
    x = np.linspace(float(ends[0]), float(ends[1]), 48 if freedom < 5 else 20)
    density = np.exp(freedom / 2 * x - np.exp(x))
    return freedom / 2 / np.exp(x), density / density.sum()


def tail(error: Any, rows: Any, seeds: Any, freedom: Any) -> FloatArray:
    """Probability that sqrt(rows) z + sqrt(seeds) t exceeds `error` >= 0; elementwise over arrays of one shape.

    t is z' / sqrt(chi-square / freedom): given the chi-square all is normal; its law is summed over a grid.
    """
    error, rows, seeds, freedom = np.broadcast_arrays(*map(np.asarray, (error, rows, seeds, freedom)))
    probability = np.empty(error.shape)
    for f in np.unique(freedom):
        here = freedom == f
        scale, weight = _nodes(float(f))
        deviation = np.sqrt(rows[here][:, None] + seeds[here][:, None] * scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(error[here][:, None] == 0, 0.0, error[here][:, None] / deviation)
        probability[here] = ndtr(-z) @ weight
    return probability


def margin(rows: Any, seeds: Any, freedom: Any, level: float = LEVEL) -> FloatArray:
    """Half-width of the two-sided interval: the error whose tail is (1 - level) / 2; elementwise.

    By Newton's steps on the logarithms of tail and error, where normal and Student's tails are all but straight.
    """
    rows, seeds, freedom = np.broadcast_arrays(*map(np.atleast_1d, (rows, seeds, freedom)))
    wanted = np.log((1 - level) / 2)
    error = ndtri((1 + level) / 2) * np.sqrt(rows + seeds)
    free = error > 0
    for _ in range(8):
        p, slope = tail(error, rows, seeds, freedom), 1e-4
        p_further = tail(error * np.exp(slope), rows, seeds, freedom)
        step = slope * (wanted - np.log(p)) / np.where(free, np.log(p_further / p), 1.0)
        error = np.where(free, error * np.exp(step), 0.0)
    return error


def intervals(
    systems: Sequence[Scores], *, proportion: bool = False, level: float = LEVEL
) -> tuple[FloatArray, FloatArray]:
    """Bounds for each of S means, (S,) each; for proportions Wilson's with the effective number of rows.

    Wilson's interval of a proportion p from n rows stays inside 0..1 and has width where no row is wrong. Seeds, and
    rows that vary together, leave n = p (1 - p) / V effective rows (the idea of Korn and Graubard, "Confidence
    intervals for proportions with small expected number of positive counts", 1998).
    """
    p = np.array([system.value for system in systems])
    variances = [system.variance for system in systems]
    rows, seeds = np.array([v.rows for v in variances]), np.array([v.seeds for v in variances])
    half = margin(rows, seeds, np.array([len(system.seeds) - 1 for system in systems]), level)
    if not proportion:
        return p - half, p + half
    V, binomial = rows + seeds, np.maximum(0.0, p * (1 - p))
    known = (V > 0) & (binomial > 0)
    q = np.divide(half, np.sqrt(V), out=np.full(len(p), ndtri((1 + level) / 2)), where=V > 0)
    n_rows = np.array([float(system.n_rows) for system in systems])
    n = np.divide(binomial, V, out=n_rows, where=known)
    centre = (p + q * q / (2 * n)) / (1 + q * q / n)
    half = q / (1 + q * q / n) * np.sqrt(binomial / n + q * q / (4 * n * n))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


@dataclass(frozen=True)
class Difference:
    """A minus B on one dataset: same test rows, same seeds.

    Attributes:
        p: Two-sided, of the paired test that accounts for test rows and seeds.
        p_mcnemar: Of McNemar's test, for these trained heads; nan where the metric is not right or wrong per row.
        p_permutation: Of the test that swaps A and B row by row, for these trained heads.
    """

    value: float
    low: float
    high: float
    p: float
    p_mcnemar: float
    p_permutation: float
    n_seeds: int
    n_rows: int


def difference(a: Scores, b: Scores) -> Scores:
    """A minus B under the seeds that both have, as scores of its own."""
    common = sorted(set(a.seeds) & set(b.seeds))
    parts = []
    for system in (a, b):
        places = [system.seeds.index(seed) for seed in common]
        parts.append((system.means[places], system.influences[places] * (len(system.seeds) / max(1, len(common)))))
    return Scores(tuple(common), parts[0][0] - parts[1][0], parts[0][1] - parts[1][1])


def compare(a: Scores, b: Scores, *, binary: bool, level: float = LEVEL, seed: int = 0) -> Difference:
    """Paired comparison of two systems that have seeds in common."""
    paired = difference(a, b)
    R, N, variance = len(paired.means), paired.n_rows, paired.variance
    (low,), (high,) = intervals([paired], level=level)
    p = 2 * float(tail(abs(paired.value), variance.rows, variance.seeds, R - 1))
    row_values = paired.influences * (R * N) + paired.means[:, None]
    p_mcnemar = mcnemar(row_values) if binary else float("nan")
    p_permutation = permutation(row_values.mean(axis=0), seed=seed)
    return Difference(paired.value, float(low), float(high), p, p_mcnemar, p_permutation, R, N)


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
