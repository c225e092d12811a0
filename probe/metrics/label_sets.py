"""Sets of label sets that hold the true one at a chosen rate, for rows with several labels each.

Label-powerset inductive conformal prediction: a set Y of labels has the nonconformity a = sum_j |o_j - Y_j|^power of
the probabilities o, and belongs to the answer where a is no larger than the ceil((n + 1) level)-th smallest of those of
n held-out rows. The smallest is that of the labels above 1/2; to turn label j costs ||1 - o_j|^power - |o_j|^power|
more, so that the answer is all choices of turns whose costs stay within what is left: the 2^K sets are never gone
through. Where held-out and test rows are exchangeable the true set is in the answer with a probability of level or
more.

Source: Maltoudoglou, Paisios, Lenc, Martinek, Kral, Papadopoulos, "Well-calibrated Confidence Measures for Multi-label
Text Classification with a Large Number of Labels", 2022, arXiv 2312.09304.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray, Interval, percentile
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.thresholds import threshold

POWER = 2.0
MOST = 10_000
"""Sets of a row that are counted; what has more is cut there, and told."""
ROUNDING = 1e-12
N_RESAMPLES = 200


def nonconformity(probabilities: FloatArray, labels: NDArray[Any], power: float = POWER) -> FloatArray:
    """a, (N,), of label sets (N, K) by probabilities (N, K)."""
    found: FloatArray = (np.abs(probabilities - labels) ** power).sum(axis=1)
    return found


def p_values(scores: FloatArray, held: FloatArray) -> FloatArray:
    """Share of held-out rows, and itself, with a nonconformity no smaller: of any array of nonconformities."""
    ordered = np.sort(held)
    at_least = len(held) - np.searchsorted(ordered, scores - ROUNDING)
    found: FloatArray = (at_least + 1) / (len(held) + 1)
    return found


def label_sets(
    probabilities: FloatArray, limit: float, power: float = POWER, most: int = MOST
) -> tuple[NDArray[np.bool_], bool]:
    """The label sets of one row that belong to the answer, the best first, (n, K), and whether there are more.

    Args:
        probabilities: (K,) of the labels.
        limit: Largest nonconformity that belongs.
        power: Of the nonconformity.
        most: How many sets to stop at.
    """
    best = probabilities > 0.5
    costs = np.abs(np.abs(1 - probabilities) ** power - np.abs(probabilities) ** power)
    left = limit - float(nonconformity(probabilities[None], best[None], power)[0]) + ROUNDING
    if left < 0:
        return np.empty((0, len(best)), dtype=bool), False
    spent, turned = np.zeros(1), np.zeros((1, len(best)), dtype=bool)
    cut = False
    for j in np.argsort(costs, kind="stable"):
        if costs[j] > left:  # and so do all that follow
            break
        room = np.flatnonzero(spent + costs[j] <= left)
        more = turned[room].copy()
        more[:, j] = True
        spent, turned = np.concatenate([spent, spent[room] + costs[j]]), np.concatenate([turned, more])
        if len(spent) > most:
            kept = np.argsort(spent, kind="stable")[:most]
            spent, turned, cut = spent[kept], turned[kept], True
            break
    order = np.argsort(spent, kind="stable")
    return turned[order] ^ best, cut


@dataclass(frozen=True, eq=False)
class LabelSetScores:
    """Answers for the test rows.

    Attributes:
        sizes: (N,) label sets in each answer, at most `MOST`.
        cut: (N,) where there are more.
        covered: (N,) where the true set is among them.
        truth: (N,) p-values of the true sets.
    """

    target: ClassVar[str] = "labels"

    sizes: IntArray
    cut: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    truth: FloatArray


def answers(
    probabilities: FloatArray, labels: NDArray[Any], held: FloatArray, level: float, power: float = POWER
) -> LabelSetScores:
    """Answers for rows with probabilities (N, K) and labels (N, K), from nonconformities (n,) of held-out rows."""
    limit = threshold(held, level)
    found = [label_sets(row, limit, power) for row in probabilities]
    scores = nonconformity(probabilities, labels, power)
    return LabelSetScores(
        np.array([len(sets) for sets, _ in found]),
        np.array([cut for _, cut in found]),
        scores <= limit + ROUNDING,
        p_values(scores, held),
    )


def from_uniform(values: FloatArray) -> float:
    """The largest distance of the share of p-values up to any e from e."""
    ordered, n = np.sort(values), len(values)
    return float(max((np.arange(1, n + 1) / n - ordered).max(), (ordered - np.arange(n) / n).max()))


def _distance(scores: LabelSetScores, means: FloatArray, seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    drawn = (scores.truth[rng.integers(0, len(scores.truth), len(scores.truth))] for _ in range(N_RESAMPLES))
    return percentile(from_uniform(scores.truth), np.array([from_uniform(values) for values in drawn]))


def _share(name: str, of: Any, **more: Any) -> Metric:
    return Metric(name=name, targets=("labels",), reads="label_sets", interval="wilson", unit="%", proportion=True,
                  binary=True, per_row=lambda scores: of(scores).astype(np.float64), **more)  # fmt: skip


METRICS = (
    _share("label_set_coverage", lambda scores: scores.covered, better="target", target="conformal_level"),
    Metric(name="mean_label_sets", targets=("labels",), reads="label_sets", better="lower",
           per_row=lambda scores: scores.sizes.astype(np.float64)),
    _share("empty_label_sets", lambda scores: scores.sizes == 0, better="lower"),
    _share("cut_label_sets", lambda scores: scores.cut, better="lower"),
    Metric(name="label_set_p_distance", targets=("labels",), reads="label_sets", interval=_distance, better="lower",
           proportion=True, unranked="it is a distance of two distributions, in which no row has a part of its own"),
)  # fmt: skip
