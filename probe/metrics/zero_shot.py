"""Seen and unseen classes that compete: accuracies of both, their harmonic mean, and the area under their trade-off.

All are means over classes, as Xian et al. have them ("Zero-Shot Learning: A Comprehensive Evaluation of the Good, the
Bad and the Ugly", 2018, arXiv 1707.00600); the area is that of W.-L. Chao et al., "An Empirical Study and Analysis of
Generalized Zero-Shot Learning for Object Recognition in the Wild", 2016, arXiv 1605.04253. Classes without a test row
are left out of the means, where some releases count them as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.scores import OfSeen

MOST_POINTS = 200
"""Of the curve that a run records."""


def class_mean(values: FloatArray, labels: IntArray, inside: NDArray[np.bool_]) -> Statistic:
    """Mean over the classes of the rows `inside` of the mean value of their rows, and its derivative by row weight."""
    counts = np.bincount(labels[inside])
    means = np.bincount(labels[inside], weights=values[inside]) / np.maximum(counts, 1)
    present, own = counts > 0, labels[inside]
    slopes = np.zeros(len(labels))
    slopes[inside] = (values[inside] - means[own]) / (counts[own] * present.sum())
    return float(means[present].mean()), slopes


def accuracy(scores: OfSeen, seen: bool) -> Statistic:
    """Mean over seen, or unseen, classes of the share of their rows that is right among all classes."""
    labels = scores.rows.labels
    return class_mean(scores.rows.correct.astype(np.float64), labels, scores.seen[labels] == seen)


def harmonic_mean(scores: OfSeen) -> Statistic:
    """H = 2 a b / (a + b) of both accuracies, 0 where both are 0; dH/da = 2 b^2 / (a + b)^2."""
    (a, of_a), (b, of_b) = accuracy(scores, True), accuracy(scores, False)
    if a + b == 0:
        return 0.0, np.zeros(len(of_a))
    return 2 * a * b / (a + b), 2 * (b**2 * of_a + a**2 * of_b) / (a + b) ** 2


@dataclass(frozen=True)
class Margins:
    """How far the best seen class of each row is above the best unseen one, (N,), and whether each is the label's.

    With g added to the scores of unseen classes, a row is taken for seen where its margin is g or more.
    """

    margin: FloatArray
    right: NDArray[np.bool_]
    of_seen: NDArray[np.bool_]
    labels: IntArray

    @classmethod
    def of(cls, scores: OfSeen) -> Margins:
        """From the logits of the rows."""
        logits, labels, seen = scores.rows.logits.astype(np.float64), scores.rows.labels, scores.seen
        best = [np.where(mask, logits, -np.inf) for mask in (seen, ~seen)]
        top = [values.max(axis=1) for values in best]
        with np.errstate(invalid="ignore"):
            margin = np.nan_to_num(top[0] - top[1], nan=0.0, posinf=np.inf, neginf=-np.inf)
        of_seen = seen[labels]
        own = np.where(of_seen, best[0].argmax(axis=1), best[1].argmax(axis=1))
        right = (own == labels) & np.isfinite(logits[np.arange(len(labels)), labels])
        return cls(margin, right, of_seen, labels)


def ausuc(scores: OfSeen) -> Statistic:
    """Area under the curve of seen and unseen accuracy, over all g that may be added to the scores of unseen classes.

    Sum over seen rows i and unseen rows j of u_i u_j [margin_i > margin_j], ties counting half, u the share that a row
    has in the mean over its classes where its own kind's best class is right, else 0. A perfect gate gives the product
    of both accuracies without the other kind.
    """
    found = Margins.of(scores)
    shares = np.zeros(len(found.labels))
    for kind in (True, False):
        inside = found.of_seen == kind
        counts = np.bincount(found.labels[inside])
        shares[inside] = found.right[inside] / (counts[found.labels[inside]] * (counts > 0).sum())
    value, slopes = 0.0, np.zeros(len(found.labels))
    for kind in (True, False):
        inside = found.of_seen == kind
        beaten = found.right[inside] * _weight_beyond(found.margin[inside], found, shares, below=kind)
        values = np.zeros(len(found.labels))
        values[inside] = beaten
        value, own = class_mean(values, found.labels, inside)
        slopes += own
    return value, slopes


def _weight_beyond(margins: FloatArray, found: Margins, shares: FloatArray, *, below: bool) -> FloatArray:
    """Share of the rows of the other kind whose margin is below, or above, each; ties count half."""
    inside = found.of_seen != below
    order = np.argsort(found.margin[inside], kind="stable")
    ordered, total = found.margin[inside][order], np.append(0.0, np.cumsum(shares[inside][order]))
    left, right = (np.searchsorted(ordered, margins, side=side) for side in ("left", "right"))
    under = (total[left] + total[right]) / 2
    return under if below else total[-1] - under


def curve(scores: OfSeen, added: FloatArray | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Seen and unseen accuracy at each g, which stands behind them; by default at every g where one of them changes."""
    found = Margins.of(scores)
    if added is None:
        finite = np.unique(found.margin[np.isfinite(found.margin)])
        added = np.concatenate([[-np.inf], finite, [np.inf]])
    points = []
    for g in added:
        taken = (found.margin > g) if np.isneginf(g) else (found.margin >= g)
        hit = found.right & (taken == found.of_seen)
        points.append([class_mean(hit.astype(float), found.labels, found.of_seen == k)[0] for k in (True, False)])
    both = np.array(points)
    return both[:, 0], both[:, 1], added


def record(scores: OfSeen, class_names: Sequence[str]) -> dict[str, Any]:
    """For the record of a run: the unseen classes, and points of the curve."""
    if not both_are_tested(scores):
        return {"unseen": [class_names[int(k)] for k in np.flatnonzero(~scores.seen)]}
    margins = np.sort(Margins.of(scores).margin)
    margins = margins[np.isfinite(margins)]
    places = np.unique(np.linspace(0, len(margins) - 1, min(MOST_POINTS, len(margins))).astype(int))
    seen, unseen, _ = curve(scores, np.concatenate([[-np.inf], margins[places], [np.inf]]))
    return {
        "unseen": [class_names[int(k)] for k in np.flatnonzero(~scores.seen)],
        "curve": {"acc_seen": seen.tolist(), "acc_unseen": unseen.tolist()},
    }


def both_are_tested(scores: OfSeen) -> bool:
    """Whether rows of seen and of unseen classes test."""
    kinds = scores.seen[scores.rows.labels]
    return bool(kinds.any() and not kinds.all())


SHARED: dict[str, Any] = {
    "reads": "seen", "interval": "jackknife", "proportion": True, "unit": "%", "suits": both_are_tested,
}  # fmt: skip
METRICS = (
    Metric(name="acc_seen", of_all=lambda scores: accuracy(scores, True), **SHARED),
    Metric(name="acc_unseen", of_all=lambda scores: accuracy(scores, False), **SHARED),
    Metric(name="harmonic_mean", of_all=harmonic_mean, **SHARED),
    Metric(name="ausuc", of_all=ausuc, **SHARED),
)  # fmt: skip
