"""How well a score tells rows of known classes from rows of unknown ones; a larger score is a better known row.

`fpr95` is the share of unknown rows that are taken for known where 95 % of the known are; `fpr95_ood_positive`, which
OpenOOD calls FPR@95, the share of known rows that are rejected where 95 % of the unknown are. AUPR is the area under
precision and recall by trapezoids, `in` with the known rows to be found and `out` with the unknown ones: as OpenOOD has
it, and not average precision.

Intervals draw both kinds of rows again, groups of them where rows belong to groups, and the threshold with them, in
the form of Wilson's, so that they hold near 0 and 1 too. Rows stand in at most 300 steps of the score for it; the
values themselves are of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray, Interval, between
from probe.metrics.shared.metric import Metric

RECIPE = "2"  # groups of rows are drawn as one; "1" drew their rows
KEPT = 0.95
N_STEPS, N_RESAMPLES = 300, 300
NAMES = ("auroc", "fpr95", "fpr95_ood_positive", "aupr_in", "aupr_out")


@dataclass(frozen=True, eq=False)
class Detection:
    """Scores of rows of known classes, (N,), and of unknown ones, (M,).

    Attributes:
        seed: Of the resamples.
        known_groups, unknown_groups: (N,) and (M,) numbers of the groups that rows belong to, from 0 on; None where
            each is its own.
    """

    target: ClassVar[str] = "one_class"

    known: NDArray[Any]
    unknown: NDArray[Any]
    seed: int = 0
    known_groups: IntArray | None = None
    unknown_groups: IntArray | None = None

    @cached_property
    def _places(self) -> tuple[IntArray, IntArray, int]:
        """Place of each row of both kinds among the distinct scores, the largest first, and how many these are."""
        values, place = np.unique(np.concatenate([self.known, self.unknown]), return_inverse=True)
        place = len(values) - 1 - place.ravel()
        return place[: len(self.known)], place[len(self.known) :], len(values)

    @cached_property
    def counts(self) -> tuple[IntArray, IntArray]:
        """Known and unknown rows at each distinct score, the largest first, (T,) each."""
        known, unknown, size = self._places
        return np.bincount(known, minlength=size), np.bincount(unknown, minlength=size)

    @cached_property
    def values(self) -> dict[str, float]:
        """By name."""
        known, unknown = self.counts
        return {name: float(value[0]) for name, value in curves(known[None], unknown[None]).items()}

    @cached_property
    def resampled(self) -> dict[str, FloatArray]:
        """The same under resamples, (300,) each."""
        known, unknown = self.counts
        total = np.cumsum(known + unknown)
        steps = np.unique(np.searchsorted(total, np.linspace(0, total[-1], N_STEPS, endpoint=False), side="right"))
        rng = np.random.default_rng(self.seed)
        drawn = []
        for counts, places, groups in zip(
            (known, unknown), self._places[:2], (self.known_groups, self.unknown_groups), strict=True
        ):
            if groups is None:
                held = np.add.reduceat(counts, steps)
                drawn.append(rng.multinomial(held.sum(), held / held.sum(), N_RESAMPLES))
                continue
            size, at = int(groups.max()) + 1, np.searchsorted(steps, places, side="right") - 1
            held = np.bincount(groups * len(steps) + at, minlength=size * len(steps)).reshape(size, len(steps))
            drawn.append(rng.multinomial(size, np.full(size, 1 / size), N_RESAMPLES) @ held)
        return curves(*drawn)

    @property
    def placements(self) -> FloatArray:
        """(N,) share of the unknown rows that each known row stands above, ties count half: their mean is `auroc`."""
        unknown = np.sort(self.unknown)
        below, up_to = (np.searchsorted(unknown, self.known, side=side) for side in ("left", "right"))
        return (below + up_to) / (2 * len(unknown))

    @property
    def rejected(self) -> FloatArray:
        """(N,) 1 for the known rows below the score up to which 95 % of the unknown are: `fpr95_ood_positive`."""
        place = int((np.arange(1, len(self.unknown) + 1) / len(self.unknown) >= KEPT).argmax())
        return (self.known <= np.sort(self.unknown)[place]).astype(np.float64)

    def interval(self, name: str) -> Interval:
        """One of `NAMES`, with its interval."""
        n, m = (len(rows) if groups is None else int(groups.max()) + 1 for rows, groups in (
            (self.known, self.known_groups), (self.unknown, self.unknown_groups)))  # fmt: skip
        least = {"auroc": min(n, m), "fpr95": m, "fpr95_ood_positive": n, "aupr_in": n, "aupr_out": m}[name]
        return between(self.values[name], self.resampled[name].std(keepdims=True), float(least))


def curves(known_BT: IntArray, unknown_BT: IntArray) -> dict[str, FloatArray]:
    """All of `NAMES`, (B,) each, from numbers of rows at T falling scores; some of each kind."""
    found_known, found_unknown = (_shares(counts) for counts in (known_BT, unknown_BT))
    left_known, left_unknown = (_shares(counts[:, ::-1]) for counts in (known_BT, unknown_BT))
    ties = np.diff(found_unknown, axis=1, prepend=0) / 2
    known = np.diff(found_known, axis=1, prepend=0)
    return {
        "auroc": (known * (1 - found_unknown + ties)).sum(axis=1),
        "fpr95": _at_kept(found_known, found_unknown),
        "fpr95_ood_positive": _at_kept(left_unknown, left_known),
        "aupr_in": _under_precision(known_BT, unknown_BT),
        "aupr_out": _under_precision(unknown_BT[:, ::-1], known_BT[:, ::-1]),
    }


def _shares(counts: IntArray) -> FloatArray:
    sums = counts.cumsum(axis=1)
    return sums / sums[:, -1:]


def _at_kept(true: FloatArray, false: FloatArray) -> FloatArray:
    """The false share at the first threshold where the true one is `KEPT`."""
    return np.take_along_axis(false, (true >= KEPT).argmax(axis=1)[:, None], axis=1)[:, 0]


def _under_precision(positive: IntArray, negative: IntArray) -> FloatArray:
    hits, others = positive.cumsum(axis=1), negative.cumsum(axis=1)
    precision = hits / np.maximum(hits + others, 1)
    before = np.concatenate([np.ones((len(hits), 1)), precision[:, :-1]], axis=1)
    found: FloatArray = (positive * (precision + before) / 2).sum(axis=1) / hits[:, -1]
    return found


def _interval(scores: Detection, means: FloatArray, seed: int, name: str) -> Interval:
    return scores.interval(name)


ROWS = {"auroc": lambda scores: scores.placements, "fpr95_ood_positive": lambda scores: scores.rejected}
"""What the known rows add to a measure; these rank, over the test rows and with the unknown rows as they are."""
METRICS = tuple(
    Metric(
        name=f"ood_{name}",
        reads="ood",
        per_row=ROWS.get(name),
        interval=partial(_interval, name=name),
        better="lower" if name.startswith("fpr") else "higher",
        unit="%",
        proportion=True,
        unranked="" if name in ROWS else "test rows have no part in it without the rows of the other dataset",
    )
    for name in NAMES
)
