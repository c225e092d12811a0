"""Accuracies: how often the true class is found, over rows and over classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.metrics.intervals import N_RESAMPLES, Interval, percentile, wilson
from probe.metrics.scores import RowScores


def top_k(scores: RowScores, k: int) -> Interval:
    """Share of rows whose true class is among the k largest logits, with Wilson's interval."""
    return wilson(int((scores.label_rank < k).sum()), len(scores.labels))


def class_counts(scores: RowScores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and correct rows of each class, (K,) each."""
    rows = np.bincount(scores.labels, minlength=scores.n_classes)
    return rows, np.bincount(scores.labels[scores.correct], minlength=scores.n_classes)


def mean_per_class(scores: RowScores, seed: int) -> Interval:
    """Mean over classes of the share of their rows that is right: macro accuracy, balanced accuracy, macro recall.

    Classes without a test row are left out of the mean. The interval is the percentile bootstrap of the rows, drawn
    class by class: sizes from a multinomial, correct rows from binomials, which is its exact law. Where every
    row is right, or none, resampling has no spread; there the mean equals top-1 and takes Wilson's interval.
    """
    rows, correct = class_counts(scores)
    if correct.sum() in (0, rows.sum()):
        return top_k(scores, 1)
    present = rows > 0
    share = correct[present] / rows[present]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(rows.sum(), rows[present] / rows.sum(), size=N_RESAMPLES)
    hits = rng.binomial(drawn, share)
    seen = drawn > 0
    replicates = np.divide(hits, drawn, where=seen, out=np.zeros(hits.shape)).sum(axis=1) / seen.sum(axis=1)
    return percentile(float(share.mean()), replicates)
