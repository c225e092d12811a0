"""What the metrics need to know of each row, read from the logits in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from probe.core.base import IntArray
from probe.core.errors import InputError

FloatArray = NDArray[np.float64]
CHUNK_VALUES = 2**22


@dataclass(frozen=True)
class RowScores:
    """Per test row, each (N,).

    Attributes:
        labels: True class codes.
        predicted: Class of the largest logit, the first of them where several are equal.
        confidence: Probability of the predicted class.
        label_log_probability: Natural logarithm of the true class's probability, -inf where its logit is.
        label_rank: How many classes stand before the true one, 0 = it is predicted. Of equal logits the lower class
            stands first. A logit of -inf ranks last, K - 1: a class that no training row had is never a hit.
        squared_norm: Sum of the squared probabilities of all classes.
        n_classes: K.
    """

    labels: IntArray
    predicted: IntArray
    confidence: FloatArray
    label_log_probability: FloatArray
    label_rank: IntArray
    squared_norm: FloatArray
    n_classes: int

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Where the prediction is right."""
        return self.predicted == self.labels


def score_rows(logits: NDArray[Any], labels: NDArray[Any]) -> RowScores:
    """Reads the scores of each row from its logits.

    Args:
        logits: (N, K) unnormalised log-probabilities; -inf for a class that no training row had.
        labels: (N,) class codes 0..K-1.
    """
    labels = _check(logits, labels)
    n_classes = logits.shape[1]
    step = max(1, CHUNK_VALUES // n_classes)
    parts = [_chunk(logits[i : i + step], labels[i : i + step], i) for i in range(0, len(labels), step)]
    predicted, confidence, log_p, rank, norm = (np.concatenate(column) for column in zip(*parts, strict=True))
    return RowScores(labels, predicted, confidence, log_p, rank, norm, n_classes)


def _check(logits: NDArray[Any], labels: NDArray[Any]) -> IntArray:
    labels = np.asarray(labels)
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != (len(logits),):
        raise InputError(
            f"logits have shape {logits.shape} and labels {labels.shape}, expected (rows, classes) with at least "
            "2 classes and (rows,): give one logit per class and one label per row"
        )
    if len(labels) == 0:
        raise InputError("there are no rows to score, expected at least 1: choose a protocol that leaves test rows")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()} ({labels.dtype}), expected whole numbers in "
            f"0..{logits.shape[1] - 1}: give class codes, one logit column for each"
        )
    return labels.astype(np.int64)


def _chunk(logits: NDArray[Any], labels: IntArray, start: int) -> tuple[Any, ...]:
    """The columns of `RowScores` for some rows, the first of which has number `start`."""
    logits = logits.astype(np.float64)
    best = logits.max(axis=1)
    wrong = np.flatnonzero(~np.isfinite(best))
    if len(wrong):
        raise InputError(
            f"row {start + wrong[0]} has {best[wrong[0]]} as its largest logit, expected a finite number: "
            "the head diverged, or its features are not finite"
        )
    rows = np.arange(len(labels))
    log_p = log_softmax(logits, axis=1)
    own = logits[rows, labels][:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None]))
    rank = np.where(np.isneginf(own[:, 0]), logits.shape[1] - 1, before.sum(axis=1))
    predicted = logits.argmax(axis=1)
    p = np.exp(log_p)
    return predicted, p[rows, predicted], log_p[rows, labels], rank, np.einsum("nk,nk->n", p, p)
