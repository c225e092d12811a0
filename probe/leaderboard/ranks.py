"""Ranks with bounds: which systems of a table can be told apart, all pairs considered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.leaderboard.kept_columns import Arrays, Pieces
from probe.leaderboard.leads import Draws, Leads, resample
from probe.leaderboard.pairs import PairTests, influences_by_seed
from probe.leaderboard.seeds import LEVEL
from probe.leaderboard.statistics import Scores, spread

N_RESAMPLES = 1000
BAND = 0.1
"""Around the standard errors that all pairs have to lead by: pairs that lead by so many are kept with their tails, so
that a slightly different number needs no new tests."""


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
    pieces: Pieces | None = None,
    digests: Sequence[str] | None = None,
    draws: Sequence[Draws] | None = None,
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

    Args:
        columns: Of each its systems, not looked at where all about them is kept.
        higher_is_better: Whether more is.
        level: Of all statements together.
        n_resamples: Of the test rows.
        seed: Of the resamples.
        pieces: What is kept of columns.
        digests: Of the columns, "" of one that nothing is kept of.
        draws: Of the columns, what names their random numbers; by default the places of columns and systems.
    """
    pieces = pieces or Pieces()
    digests = digests or [""] * len(columns)
    draws = draws or [Draws.by_place(len(column), place) for place, column in enumerate(columns)]
    asked = [
        _Column(column, name, 1.0 if higher_is_better else -1.0, level, n_resamples, of_column, seed, pieces)
        for column, name, of_column in zip(columns, digests, draws, strict=True)
    ]
    largest = np.zeros(n_resamples, np.float32)
    for column in asked:
        column.raise_largest(largest)
    # Never easier than the test of one pair, so that what is told apart here is different for `compare` too.
    all_pairs = max(float(np.quantile(largest, level)), float(ndtri((1 + level) / 2)))
    return [column.ranking(all_pairs) for column in asked]


class _Column:
    """One column while it is ranked: how far chance carries its systems, and which of its pairs are told apart."""

    def __init__(
        self,
        systems: Sequence[Scores],
        name: str,
        sign: float,
        level: float,
        n_resamples: int,
        draws: Draws,
        seed: int,
        pieces: Pieces,
    ):
        self._systems, self._name, self._sign, self._level = systems, name, sign, level
        self._n_resamples, self._draws, self._seed, self._pieces = n_resamples, draws, seed, pieces
        self._least = float(ndtri((1 + level) / 2))
        self._drawn_from = (sign, level, n_resamples, seed, draws.digest if name else "")
        self._leads: Leads | None = None

    def raise_largest(self, largest: NDArray[np.float32]) -> None:
        """Raises (B,) to the largest lead of any pair, exactly where a quantile rests on it."""
        if not self._name:
            self._drawn().raise_largest(largest, self._level)
            return

        def make() -> Arrays:
            own = np.zeros(self._n_resamples, np.float32)
            self._drawn().raise_largest(own, self._level)
            return {"largest": own}

        found = self._pieces.get(self._name, ("largest leads", *self._drawn_from), make)
        np.maximum(largest, found["largest"], out=largest)

    def _drawn(self) -> Leads:
        """The leads, drawn where they are not at hand."""
        if self._leads is None:
            influences = self._sign * influences_by_seed(self._systems).sum(axis=1)
            added = spread(self._systems).added
            drawn = resample(influences, added, self._n_resamples, self._draws, self._seed)
            self._leads = Leads(*drawn, np.array([system.value for system in self._systems]))
        return self._leads

    def ranking(self, all_pairs: float) -> Ranking:
        """The ranking, where a pair is told apart that leads by so many standard errors of a normal."""
        band = BAND if self._name else 0.0
        tests = self._pieces.get(
            self._name,
            ("tests", self._sign, self._level),
            lambda: self._tests(max(self._least, all_pairs - band), all_pairs + band),
            lambda found: bool(found["ends"][0] <= all_pairs <= found["ends"][1]),
        )
        told = tests["tails"] <= ndtr(-all_pairs)
        n_better, n_worse = tests["n_better"].copy(), tests["n_worse"].copy()
        np.add.at(n_better, tests["second"][told], 1)
        np.add.at(n_worse, tests["first"][told], 1)
        behind = self._pieces.get(
            self._name,
            ("behind", *self._drawn_from),
            lambda: {"found": _behind(tests["smallest"], self._drawn, self._level)},
        )
        self._leads = None
        return Ranking(~behind["found"], 1 + n_better, len(n_worse) - n_worse)

    def _tests(self, low: float, high: float) -> Arrays:
        """Of all pairs, for any number of standard errors from `low` to `high`.

        Returns:
            `ends`: low and high. `n_better`, `n_worse`: (S,) systems that are better and worse at both. Pairs of which
            this hangs on the number: `first`, which is ahead, `second`, and their one-sided p-values `tails`.
            `smallest`: (S,) p-value of the system that is most surely better than each; 0 of those that have a better
            one at both ends, 1 where no single test would tell.
        """
        tests = PairTests(self._systems, self._sign)
        better, *others = tests.better(*(float(ndtr(-z)) for z in ([high, low] if low < high else [high])))
        first, second = np.nonzero(others[0] & ~better) if others else np.zeros((2, 0), np.intp)
        told = better.any(axis=0)
        smallest = np.where(told, 0.0, 1.0)
        ahead, behind = tests.ahead(np.flatnonzero(~told), self._least)
        np.minimum.at(smallest, behind, tests.tail(ahead, behind))
        return {
            "ends": np.array([low, high]), "n_better": better.sum(axis=0), "n_worse": better.sum(axis=1),
            "first": first.astype(np.int32), "second": second.astype(np.int32), "tails": tests.tail(first, second),
            "smallest": smallest,
        }  # fmt: skip


def _behind(smallest: NDArray[np.float64], leads: Callable[[], Leads], level: float) -> NDArray[np.bool_]:
    """(S,) whether some system is better than one at the level of this one alone.

    That level is never stricter than the one of all pairs, and never easier than that of one pair: only what lies
    between them has to be looked at.
    """
    least = float(ndtri((1 + level) / 2))
    found = smallest <= 0
    for system in np.flatnonzero(~found & (smallest <= ndtr(-least))).tolist():
        above = leads().quantile_is_above(system, level, -float(ndtri(smallest[system])))
        if above is None:
            above = smallest[system] > ndtr(-max(leads().quantile_over(system, level), least))
        found[system] = not above
    return found
