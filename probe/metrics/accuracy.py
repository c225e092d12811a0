"""Accuracies: how often the true class is found, over rows and over classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.bins import sums_by_bin
from probe.metrics.shared.frequency import by_frequency
from probe.metrics.shared.intervals import LEVEL, FloatArray, Interval, mean_of, wilson
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.scores import Frequencies
from probe.metrics.shared.scores.one_class import RowScores

BoolArray = NDArray[np.bool_]
RECIPE = "2"  # means over classes have the intervals of their classes; "1" were percentiles


def top_k(scores: RowScores, k: int) -> FloatArray:
    """1 where the true class is among the k largest logits."""
    return (scores.label_rank < k).astype(np.float64)


def class_mean_rows(scores: RowScores, classes: BoolArray | None = None) -> FloatArray:
    """Mean over classes of the share of their rows that is right, row by row.

    With n_c rows in class c, of which a share a_c is right, N rows and K classes that have rows: value = m + N / (K
    n_c) (correct - a_c), m the mean of a_c. Their variance gives that of the stratified estimate. Rows of classes
    outside the mask `classes` get NaN. Of several runs on the same rows, (..., N), each has values of its own.
    """
    inside = np.ones(len(scores.labels), dtype=bool) if classes is None else classes[scores.labels]
    correct, own = scores.correct[..., inside], scores.labels[inside]
    counts = np.bincount(own)
    shares = sums_by_bin(correct, own, len(counts)) / np.maximum(counts, 1)
    present = counts > 0
    weight = inside.sum() / (present.sum() * counts[own])
    values = np.full(scores.correct.shape, np.nan)
    values[..., inside] = shares[..., present].mean(axis=-1, keepdims=True) + weight * (correct - shares[..., own])
    return values


def class_counts(scores: RowScores) -> tuple[IntArray, IntArray]:
    """Rows and correct rows of each class, (K,) each."""
    rows = np.bincount(scores.labels, minlength=scores.n_classes)
    return rows, np.bincount(scores.labels[scores.correct], minlength=scores.n_classes)


def mean_per_class(scores: RowScores, classes: BoolArray | None = None) -> Interval:
    """Mean over classes of the share of their rows that is right: macro accuracy; 1 - balanced error.

    Classes without a test row are left out of the mean. Each has Wilson's interval; these are combined by `mean_of`, so
    that a class of few rows, all right, is no class without doubt; and the mean has Wilson's with the effective number
    of rows. The ends are the outer ones of the two.

    Args:
        scores: Of the test rows.
        classes: (K,) mask, to mean over some classes only; at least one of them must have test rows.
    """
    rows, correct = class_counts(scores)
    present = (rows > 0) & (True if classes is None else classes)
    rows, correct = rows[present], correct[present]
    found = mean_of([wilson(int(c), int(n)) for c, n in zip(correct, rows, strict=True)])
    variance = float((correct * (rows - correct) / rows**3).sum()) / len(rows) ** 2
    if not variance:
        return found
    n = found.value * (1 - found.value) / variance
    pooled = wilson(found.value * n, n)
    return Interval(found.value, min(found.low, pooled.low), max(found.high, pooled.high))


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


def groups_by_frequency(scores: Frequencies) -> dict[str, BoolArray]:
    """Masks (K,) of the tested classes with many, some and few training rows, by the name of their metric."""
    groups = by_frequency(scores.train_counts, class_counts(scores.rows)[0] > 0)
    return {f"{name}_shot": group for name, group in groups.items()}


def _of_group(name: str) -> Metric:
    """Mean per-class accuracy of the classes of one group."""
    return Metric(
        name=name,
        reads="frequency",
        suits=lambda scores: name in groups_by_frequency(scores),
        per_row=lambda scores: class_mean_rows(scores.rows, groups_by_frequency(scores)[name]),
        interval=lambda scores, means, seed: mean_per_class(scores.rows, groups_by_frequency(scores)[name]),
        unit="%",
        proportion=True,
    )


def _top(k: int, **more: Any) -> Metric:
    per_row: Callable[[RowScores], FloatArray] = partial(top_k, k=k)
    return Metric(name=f"top{k}", per_row=per_row, interval="wilson", unit="%", proportion=True, binary=True,
                  needs=("label_rank",), stacks=True, tolerance=1e-6, **more)  # fmt: skip


METRICS = (
    _top(1, shown=True),
    _top(5, suits=lambda scores: scores.n_classes >= 5),
    Metric(name="mean_per_class", per_row=class_mean_rows, unit="%", proportion=True, needs=("label_rank", "label"),
           interval=lambda scores, means, seed: mean_per_class(scores), stacks=True, tolerance=1e-6),
    Metric(name="worst_class", interval=lambda scores, means, seed: worst_class(scores), unit="%", proportion=True,
           unranked="it is the lowest of many classes, and which one that is changes with the rows"),
    *map(_of_group, ("many_shot", "medium_shot", "few_shot")),
)  # fmt: skip
