"""Accuracies: how often the true class is found, over rows and over classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.metrics.intervals import LEVEL, N_RESAMPLES, Interval, percentile, wilson
from probe.metrics.rows import Measured, class_mean_rows
from probe.metrics.scores import RowScores

MANY, FEW = 100, 20


def top_k(scores: RowScores, k: int) -> Interval:
    """Share of rows whose true class is among the k largest logits, with Wilson's interval."""
    return wilson(int((scores.label_rank < k).sum()), len(scores.labels))


def class_counts(scores: RowScores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and correct rows of each class, (K,) each."""
    rows = np.bincount(scores.labels, minlength=scores.n_classes)
    return rows, np.bincount(scores.labels[scores.correct], minlength=scores.n_classes)


def mean_per_class(scores: RowScores, seed: int, classes: NDArray[np.bool_] | None = None) -> Interval:
    """Mean over classes of the share of their rows that is right: macro accuracy; 1 - balanced error.

    Classes without a test row are left out of the mean. The interval is the percentile bootstrap of the rows, drawn
    class by class: sizes from a multinomial, correct rows from binomials, which is its exact law. Where every
    row is right, or none, resampling has no spread; there the mean is the share of all rows and takes Wilson's
    interval.

    Args:
        scores: Of the test rows.
        seed: Of the resamples.
        classes: (K,) mask, to mean over some classes only; at least one of them must have test rows.
    """
    rows, correct = class_counts(scores)
    present = (rows > 0) & (True if classes is None else classes)
    rows, correct = rows[present], correct[present]
    if correct.sum() in (0, rows.sum()):
        return wilson(int(correct.sum()), int(rows.sum()))
    share = correct / rows
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(rows.sum(), rows / rows.sum(), size=N_RESAMPLES)
    hits = rng.binomial(drawn, share)
    seen = drawn > 0
    replicates = np.divide(hits, drawn, where=seen, out=np.zeros(hits.shape)).sum(axis=1) / seen.sum(axis=1)
    return percentile(float(share.mean()), replicates)


def worst_class(scores: RowScores) -> Interval:
    """Lowest share of right rows of any class that has test rows.

    The lowest of many is low by chance too, so each class gets Wilson's interval at level 1 - 0.05 / K, and the ends
    are the lowest of theirs: together they hold all classes, and with them the worst, at 95 %.
    """
    rows, correct = class_counts(scores)
    present = np.flatnonzero(rows)
    level = 1 - (1 - LEVEL) / len(present)
    found = [wilson(int(correct[k]), int(rows[k]), level) for k in present]
    return Interval(min(i.value for i in found), min(i.low for i in found), min(i.high for i in found))


def by_frequency(scores: RowScores, train_counts: NDArray[np.int64], seed: int) -> Measured:
    """`many_shot`, `medium_shot`, `few_shot`: mean per-class accuracy by the training rows that the classes have.

    Many are more than 100 rows, few less than 20. A group without a class that has test rows is left out; with one
    group alone there is nothing to tell apart, and none is given. Source: Z. Liu et al., "Large-Scale Long-Tailed
    Recognition in an Open World", 2019, arXiv 1904.05160.

    Args:
        scores: Of the test rows.
        train_counts: (K,) rows of each class that the head may learn from, those that validate included.
        seed: Of the resamples.
    """
    tested = class_counts(scores)[0] > 0
    many, few = train_counts > MANY, train_counts < FEW
    groups = {"many_shot": many, "medium_shot": ~many & ~few, "few_shot": few}
    groups = {name: group & tested for name, group in groups.items() if (group & tested).any()}
    if len(groups) == 1:
        return Measured()
    return Measured(
        {name: mean_per_class(scores, seed, group) for name, group in groups.items()},
        {name: class_mean_rows(scores.correct, scores.labels, group) for name, group in groups.items()},
    )
