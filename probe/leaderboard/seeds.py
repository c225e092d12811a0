"""How much seeds scatter, learnt from all systems of a column.

Two or three seeds say little of one system's scatter; all systems together say what to expect. Scatter is counted in
units of what it is where a seed only draws each row anew (`rest`, known from many rows): a factor f >= 1, of which the
means under R seeds give the estimate r = seeds / rest, with d r / f ~ chi-square(d), d = R - 1. The factors of a column
follow one of many candidate laws: all are 1 (seeds add nothing), or d0 s0 / f ~ chi-square(d0), cut at 1, for any size
s0 and any similarity d0; a share of outliers may be mixed in. A candidate counts by how well it foretells all r, and
the law of one factor, given its own r, is the mean over candidates. So systems that agree are pooled, others keep
their own, one alone gets about Student's t, and a zero by coincidence of few seeds is no zero.

After Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments", 2004, who takes the single best (s0, d0), from the logarithms of the variances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri

from probe.leaderboard.seed_cells import N_ALL, Cells

FloatArray = NDArray[np.float64]
LEVEL = 0.95
SIMILARITIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
SIZE_STEP = 0.5
NOTHING = 2.0
"""Weight, before any seed is seen, that seeds add nothing: that of all sizes within a factor of e^2."""
LEAST_REST = 1e-4
"""Where rows hardly differ from seed to seed, the unit is this part of the scatter of the means."""
N_LEARNT_FROM = 4000
CHUNK_VALUES = 2**22
MARGIN = 1e-3
"""Around bounds of the grid: the law of one mean is learnt from all others, which hang a little on its own seeds. The
bounds at its nodes are as close: what lies between them is looked at one by one."""
TINY = 1e-300


@dataclass(frozen=True)
class Variances:
    """Of M means over seeds, as they are found.

    Attributes:
        both: (M,) of the rows' means over seeds: what rows, and rest within them, give.
        rest: (M,) part of it that each seed draws anew.
        seeds: (M,) squared standard error of the seeds' means.
        freedom: (M,) degrees of freedom of the latter; 0 where nothing varies with the seed, or there is one.
    """

    both: FloatArray
    rest: FloatArray
    seeds: FloatArray
    freedom: NDArray[Any]

    def at(self, places: Any) -> Variances:
        """Of some of the means."""
        return Variances(self.both[places], self.rest[places], self.seeds[places], self.freedom[places])


@dataclass(frozen=True)
class Spread:
    """Variances of M means as far as they are known: known + rest (f - 1), with probabilities of K factors f.

    Attributes:
        known: (M,) variance where seeds add nothing.
        rest: (M,) unit of what they add.
        factors: (K,) rising from 1.
        weights: (M, K) probability of each.
    """

    known: FloatArray
    rest: FloatArray
    factors: FloatArray
    weights: FloatArray

    @property
    def added(self) -> FloatArray:
        """(M,) variance that seeds add: the harmonic mean, since the arithmetic one of two seeds is infinite."""
        return self.rest * (1 / (self.weights @ (1 / self.factors)) - 1)

    def tail(self, error: FloatArray) -> FloatArray:
        """(M,) probability that an error exceeds `error` >= 0: normal, given the factor."""
        probability = np.empty(len(error))
        step = max(1, CHUNK_VALUES // len(self.factors))
        for start in range(0, len(error), step):
            part = slice(start, start + step)
            scale = np.sqrt(self.known[part, None] + self.rest[part, None] * (self.factors - 1))
            z = np.divide(error[part, None], scale, out=np.full(scale.shape, np.inf), where=scale > 0)
            z[error[part] == 0] = 0
            probability[part] = np.einsum("mk,mk->m", ndtr(-z), self.weights[part])
        return probability

    def margin(self, level: float = LEVEL) -> FloatArray:
        """(M,) half-widths of the two-sided intervals: the error whose tail is (1 - level) / 2."""
        tail, (low, high) = (1 - level) / 2, self._widest(float(ndtri((1 + level) / 2)))
        for _ in range(60):
            low, high = self._cut(tail, low, high, (low + high) / 2)
        return high

    def around(self, tail: float, margin: float) -> tuple[FloatArray, FloatArray]:
        """(M,) bounds below and above the error that has this tail, apart by a share `margin` of it at most.

        The largest factor of two seeds is e^18 and more: in logarithms 14 cuts are enough, in errors 23 were needed.

        Args:
            tail: At most one half.
            margin: Where something is known of all means; what is nothing can be no share.
        """
        low, high = self._widest(-float(ndtri(tail)))
        while (high > low * (1 + margin)).any():
            low, high = self._cut(tail, low, high, np.sqrt(low * high))
        return low, high

    def _widest(self, z: float) -> tuple[FloatArray, FloatArray]:
        """(M,) the error that has the tail of z standard errors if all factors were the least, and the largest."""
        return z * np.sqrt(self.known), z * np.sqrt(self.known + self.rest * (self.factors[-1] - 1))

    def _cut(self, tail: float, low: FloatArray, high: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The part of each interval, cut in two, in which the error with this tail lies."""
        beyond = self.tail(at) > tail
        return np.where(beyond, at, low), np.where(beyond, high, at)


@dataclass(frozen=True)
class Law:
    """What a column says of the factor of any of its means.

    Attributes:
        factors: (K,) the grid.
        candidates: (H, K) probabilities of the factors under each.
        credits: (H,) how far each is believed.
        temper: Weight of one mean's seeds in this.
    """

    factors: FloatArray
    candidates: FloatArray
    credits: FloatArray
    temper: float

    def spread(self, found: Variances) -> Spread:
        """Of means of the column, each by its own seeds and the law."""
        rest, both = _unit(found)
        weights = np.zeros((len(rest), len(self.factors)))
        weights[:, 0] = 1
        places = np.flatnonzero((found.freedom > 0) & (rest > 0))
        step = max(1, CHUNK_VALUES // max(self.candidates.shape))
        for start in range(0, len(places), step):
            part = places[start : start + step]
            likelihood = _likelihood(found.seeds[part] / rest[part], found.freedom[part], self.factors)
            # The mean's own seeds count in full; they have counted among all others as `temper`.
            others = self.credits * (likelihood @ self.candidates.T + TINY) ** -self.temper
            own = likelihood * (others @ self.candidates)
            weights[part] = own / own.sum(axis=1, keepdims=True)
        return Spread(both, rest, self.factors, weights)

    def exceeded(self, found: Variances, error: FloatArray, tails: Sequence[float]) -> NDArray[np.bool_]:
        """(T, M) whether an error is so large that its tail, `spread(found).tail(error)`, is at most each of T.

        The error at which this begins, in units of the known, rises with rest / known and with seeds / rest. Of many
        means it is computed on a grid of the two alone; only means between the bounds of their cell are looked at.
        """
        told, doubtful = np.zeros((len(tails), len(error)), bool), np.ones((len(tails), len(error)), bool)
        rest, known = _unit(found)
        for freedom in _distinct(found.freedom):
            at = np.flatnonzero((rest > 0) & (found.freedom == freedom))
            if len(at) <= N_ALL:
                continue
            of = rest.take(at), known.take(at), found.seeds.take(at), error.take(at)
            for k, (sure, not_sure) in self._by_cells(*of, freedom, tails):
                told[k, at], doubtful[k, at] = sure, not_sure
        for k, tail in enumerate(tails):
            places = np.flatnonzero(doubtful[k])
            told[k, places] = self.spread(found.at(places)).tail(error[places]) <= tail
        return told

    def _by_cells(
        self, rest: FloatArray, known: FloatArray, seeds: FloatArray, error: FloatArray, freedom: float,
        tails: Sequence[float],
    ) -> Iterator[tuple[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:  # fmt: skip
        """Of means of these degrees of freedom which errors surely have at most a tail, and which are not sure.

        Most errors are beyond the bounds of all cells, and need none of their own.
        """
        cells = Cells(rest / known, seeds / rest)
        units = error / np.sqrt(known)
        for k, tail in enumerate(tails):
            if tail > TINY:
                low, high = (bounds * by for bounds, by in zip(
                    self._begins(cells, freedom, tail), (1 - MARGIN, 1 + MARGIN), strict=True))  # fmt: skip
                sure, not_sure = units > high.max(), np.zeros(len(units), bool)
                near = np.flatnonzero(~sure & (units >= low.min()))
                of_cell_low, of_cell_high = cells.at(near, low, high)
                sure[near] = units[near] > of_cell_high
                not_sure[near] = (units[near] >= of_cell_low) & ~sure[near]
                yield k, (sure, not_sure)

    def _begins(self, cells: Cells, freedom: float, tail: float) -> tuple[FloatArray, FloatArray]:
        """Bounds of the errors that have this tail at the nodes, of means whose known variance is 1."""
        shares, ratios = cells.shares, cells.ratios
        unit = np.ones(len(ratios))
        weights = self.spread(Variances(unit, unit, ratios, np.full(len(ratios), freedom))).weights
        grid = Spread(
            np.ones(len(shares) * len(ratios)), shares.repeat(len(ratios)), self.factors,
            np.tile(weights, (len(shares), 1)),
        )  # fmt: skip
        low, high = grid.around(tail, MARGIN)
        return low.reshape(len(shares), -1), high.reshape(len(shares), -1)


def learn(found: Variances, independent: float, outliers: float = 0.0) -> Law:
    """The law of a column.

    Args:
        found: Of its means, or of the differences of its pairs.
        independent: How many of them may count as independent of each other.
        outliers: Share of the means of which the others may say nothing.
    """
    rest, _ = _unit(found)
    places = np.flatnonzero((found.freedom > 0) & (rest > 0))
    if not len(places):
        return Law(np.ones(1), np.ones((1, 1)), np.ones(1), 0.0)
    n_known = len(places)
    ratio, freedom = found.seeds[places] / rest[places], found.freedom[places]
    factors = _grid(ratio, freedom)
    if n_known > N_LEARNT_FROM:
        sample = np.linspace(0, n_known - 1, N_LEARNT_FROM).astype(np.int64)
        ratio, freedom = ratio[sample], freedom[sample]
    prior, candidates = _candidates(tuple(np.log(factors).tolist()), outliers)
    temper = min(1.0, independent / n_known)
    foretold = np.log(_likelihood(ratio, freedom, factors) @ candidates.T + TINY).sum(axis=0)
    credits = np.log(prior) + foretold * (temper * n_known / len(ratio))
    kept = credits > credits.max() - 12
    return Law(factors, candidates[kept], np.exp(credits[kept] - logsumexp(credits[kept])), temper)


def _unit(found: Variances) -> tuple[FloatArray, FloatArray]:
    """(M,) rest, and what is known where seeds add nothing."""
    rest = np.maximum(found.rest, LEAST_REST * found.seeds) * (found.freedom > 0)
    return rest, np.maximum(found.both, rest)


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The different values >= 0, sorted: of whole numbers without sorting all."""
    return np.flatnonzero(np.bincount(values)) if values.dtype.kind == "i" else np.unique(values)


def _grid(ratio: FloatArray, freedom: NDArray[Any]) -> FloatArray:
    """Factors evenly in their logarithm, as fine and as far as the likelihoods need."""
    step = min(0.25, 0.6 * float(np.sqrt(2 / freedom.max())))
    end = float(np.log(max(1.0, ratio.max()))) + max(3.0, 18.0 / float(freedom.min()))
    return np.exp(np.arange(0.0, end + step, step))


@lru_cache(64)
def _candidates(logs: tuple[float, ...], outliers: float) -> tuple[FloatArray, FloatArray]:
    """(H,) weights of the candidates before any seed is seen, and (H, K) their probabilities of the factors.

    The grids of columns of as many seeds are a few: what follows from one is kept.
    """
    x = np.array(logs)
    sizes = np.arange(0.0, x[-1] + SIZE_STEP, SIZE_STEP)
    laws = [np.eye(1, len(x))]
    for d0 in SIMILARITIES:
        density = -d0 / 2 * (x - sizes[:, None] + np.exp(sizes[:, None] - x) - 1)
        laws.append(np.exp(density - logsumexp(density, axis=1, keepdims=True)))
    prior = np.full(1 + len(sizes) * len(SIMILARITIES), SIZE_STEP / len(SIMILARITIES))
    prior[0] = NOTHING
    return prior, (1 - outliers) * np.concatenate(laws) + outliers / len(x)


def _likelihood(ratio: FloatArray, freedom: NDArray[Any], factors: FloatArray) -> FloatArray:
    """(M, K) likelihood of each factor, the largest of a row 1."""
    logs = -freedom[:, None] / 2 * (np.log(factors) + ratio[:, None] / factors)
    return np.exp(logs - logs.max(axis=1, keepdims=True))
