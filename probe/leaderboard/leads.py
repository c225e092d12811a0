"""How far chance alone carries systems ahead of each other: the largest standardised leads in resampled test rows.

Only quantiles of largest leads are asked for, so most pairs and resamples need not be looked at: a lead is at most the
distance between the highest deviation of some systems and the lowest of others, over the least error among their pairs.
Where this bound is below what other pairs have reached at the quantile already, nothing there can move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import digest
from probe.core.hashing import hash_bytes
from probe.leaderboard.pairs import squared_distances
from probe.leaderboard.seeds import FloatArray

BLOCK = 2**20
"""Counts of resampled rows at once: few and large products, since threads of small ones wait for each other."""
TILE = 16
"""Systems that are bounded together."""
N_TOGETHER = 64
"""Resamples of a pair of tiles up to which those of many pairs are looked at together: a call costs as much."""
N_SOME = 64
"""Systems that are looked at for a bound on the quantile of all."""
CLOSE = 1e-6
"""Part of a value within which numbers of float32 are not told apart."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Draws:
    """What the random numbers of a column are named by, so that no other system, column or order moves them.

    Attributes:
        rows: Names the resamples of the test rows; columns of one name and as many rows share them.
        systems: Of each system what names the draws of its seeds, as no other system of any column.
    """

    rows: str
    systems: Sequence[str]

    @classmethod
    def by_place(cls, n_systems: int, column: int = 0) -> Draws:
        """Of systems that are known by their places alone."""
        return cls(str(column), [f"{column} {place}" for place in range(n_systems)])

    @cached_property
    def digest(self) -> str:
        """Of all that the numbers follow from, but for the seed."""
        return digest([self.rows, list(self.systems)])

    def resamples(self, seed: int, n_rows: int) -> np.random.Generator:
        """Draws the test rows of all systems."""
        return _named(f"{seed} rows {n_rows} {self.rows}")

    def of_system(self, seed: int, place: int) -> np.random.Generator:
        """Draws what seeds add to one system."""
        return _named(f"{seed} system {self.systems[place]}")


def _named(name: str) -> np.random.Generator:
    return np.random.default_rng(int(hash_bytes(name.encode()), 16))


def resample(
    influences: NDArray[Any], seeds: FloatArray, n_resamples: int, draws: Draws, seed: int
) -> tuple[Floats, Floats]:
    """(B, S) deviations of the systems' means from their values, and (S, S) standard errors of their differences.

    Args:
        influences: (S, N) of the test rows on the means over seeds.
        seeds: (S,) variance that seeds add to that of the rows.
        n_resamples: B.
        draws: Of the column.
        seed: Of all random numbers.
    """
    n_systems, n_rows = influences.shape
    deviations = np.zeros((n_systems, n_resamples), np.float32)
    for place in np.flatnonzero(seeds).tolist():
        draws.of_system(seed, place).standard_normal(dtype=np.float32, out=deviations[place])
    deviations *= np.sqrt(seeds).astype(np.float32)[:, None]
    rng = draws.resamples(seed, n_rows)
    step = min(n_resamples, max(1, BLOCK // n_rows))
    offsets = np.arange(step, dtype=np.int32)[:, None] * np.int32(n_rows)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        drawn = rng.integers(0, n_rows, size=(n, n_rows), dtype=np.int32) + offsets[:n]
        counts = np.bincount(drawn.ravel(), minlength=n * n_rows).reshape(n, n_rows).astype(np.float32)
        # Influences sum to zero, so counts and counts - 1 give the same deviation.
        deviations[:, start : start + n] += influences @ counts.T
    errors = np.sqrt(squared_distances(influences) + seeds[:, None] + seeds[None, :])
    return deviations.T, errors.astype(np.float32)


class Leads:
    """The standardised leads of S systems over each other in B resamples.

    Args:
        deviations: (B, S), as `resample` gives them.
        errors: (S, S), as `resample` gives them.
        values: (S,) of the systems. Those of similar values have similar errors, so that bounds of theirs are close.
    """

    def __init__(self, deviations: Floats, errors: Floats, values: FloatArray):
        order = np.argsort(values, kind="stable")
        self._place = np.argsort(order)
        self._by_resample = deviations[:, order]
        self._deviations = np.ascontiguousarray(self._by_resample.T)
        errors = errors[order][:, order]
        self._inverse = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0)
        self._starts = np.arange(0, len(order), TILE)
        self._high = np.maximum.reduceat(self._deviations, self._starts, axis=0)
        self._low = np.minimum.reduceat(self._deviations, self._starts, axis=0)
        self._steepest = np.maximum.reduceat(self._inverse, self._starts, axis=1)
        lacking = -len(order) % TILE  # no lead of a system that is not there: its inverse error is 0
        self._tiles = np.pad(self._deviations, ((0, lacking), (0, 0))).reshape(len(self._starts), TILE, -1)
        self._inverse_tiles = np.pad(self._inverse, ((0, 0), (0, lacking))).reshape(len(order), -1, TILE)

    def raise_largest(self, largest: Floats, level: float) -> None:
        """Raises (B,) to the largest lead of any pair, exactly where the quantile of this level rests on it."""
        np.maximum(largest, self._of_extremes(), out=largest)
        steepest = np.maximum.reduceat(self._steepest, self._starts, axis=0)
        for i, start in enumerate(self._starts.tolist()):
            floor = _floor(largest, level)
            bounds = np.maximum(self._high[i] - self._low[i:], self._high[i:] - self._low[i])
            bounds *= steepest[i, i:, None]
            above = bounds > floor
            n_above = np.count_nonzero(above, axis=1)
            for j in np.flatnonzero(n_above > N_TOGETHER):
                at = np.flatnonzero(above[j])
                found = self._of_tiles(start, int(self._starts[i + j]), at)
                largest[at] = np.maximum(largest[at], found)
            above[n_above > N_TOGETHER] = False
            tiles, resamples = np.nonzero(above)
            np.maximum.at(largest, resamples, self._of_scattered(start, i + tiles, resamples))

    def quantile_over(self, system: int, level: float) -> Any:
        """The quantile of the largest lead of any other system over one."""
        s = self._place[system]
        leads = (self._by_resample - self._deviations[s][:, None]) * self._inverse[s]
        return np.quantile(np.maximum(leads.max(axis=1), 0), level)

    def quantile_is_above(self, system: int, level: float, value: float) -> bool | None:
        """Whether that quantile is above a value, or at most that; None where the two are too close to say.

        Leads beyond the value are counted, first those of some systems, then all that bounds leave.
        """
        s, n = self._place[system], len(self._by_resample)
        above, not_above = value * (1 + CLOSE), value * (1 - CLOSE)
        needed = n - int(level * (n - 1))
        own = self._deviations[s]
        some = slice(None, None, max(1, len(self._place) // N_SOME))
        leads = (self._deviations[some] - own) * self._inverse[s, some][:, None]
        beyond = (leads > above).any(axis=0)
        if np.count_nonzero(beyond) >= needed:
            return True
        may_be = (self._high - own) * self._steepest[s][:, None] > not_above
        if np.count_nonzero(may_be.any(axis=0)) < needed - 1:
            return False
        tiles, resamples = np.nonzero(may_be)
        leads = (self._tiles[tiles, :, resamples] - own[resamples, None]) * self._inverse_tiles[s, tiles]
        largest = leads.max(axis=1)
        beyond = np.zeros(n, bool)
        beyond[resamples[largest > above]] = True
        if np.count_nonzero(beyond) >= needed:
            return True
        beyond[resamples[largest > not_above]] = True
        return False if np.count_nonzero(beyond) < needed - 1 else None

    def _of_extremes(self) -> Floats:
        """(B,) lead of the system of the highest deviation over that of the lowest."""
        high, low = self._deviations.argmax(axis=0), self._deviations.argmin(axis=0)
        resamples = np.arange(len(high))
        return (self._deviations[high, resamples] - self._deviations[low, resamples]) * self._inverse[high, low]

    def _of_tiles(self, i: int, j: int, at: NDArray[Any]) -> Floats:
        """The largest lead in some resamples between systems of two tiles, either way."""
        a, b = slice(i, i + TILE), slice(j, j + TILE)
        leads = self._deviations[a][:, None, at] - self._deviations[b][:, at]
        leads *= self._inverse[a, b, None]
        return np.abs(leads, out=leads).reshape(-1, len(at)).max(axis=0)

    def _of_scattered(self, i: int, tiles: NDArray[Any], at: NDArray[Any]) -> Floats:
        """The same between a tile and others (P,), each in a resample of its own."""
        own = slice(i, i + TILE)
        leads = self._deviations[own, at][:, :, None] - self._tiles[tiles, :, at]
        leads *= self._inverse_tiles[own][:, tiles]
        return np.abs(leads, out=leads).max(axis=(0, 2), initial=0)


def _place(n: int, level: float) -> int:
    """Where the sorted values begin on which a quantile rests, at most."""
    return max(0, int(level * (n - 1)) - 1)


def _floor(values: Floats, level: float) -> Any:
    place = _place(len(values), level)
    return np.partition(values, place)[place]
