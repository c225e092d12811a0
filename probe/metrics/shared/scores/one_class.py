"""Scores of rows with one class each, read from the logits in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.shared.graded import GradedScores
from probe.metrics.shared.scores import Frequencies

FloatArray = NDArray[np.float64]
CHUNK_VALUES = 2**22


@dataclass(frozen=True)
class RowScores:
    """Of rows with one class each; per test row, each (N,).

    Attributes:
        labels: True class codes.
        predicted: Class of the largest logit, the first of them where several are equal.
        confidence: Probability of the predicted class.
        log_odds: Of the predicted class, in float32: the order of the confidences, which are all 1 long before it
            ends; rows that differ by rounding alone are equal.
        label_log_probability: Natural logarithm of the true class's probability, -inf where its logit is.
        label_rank: How many classes stand before the true one, 0 = it is predicted. Of equal logits the lower class
            stands first. A logit of -inf ranks last, K - 1: a class that no training row had is never a hit.
        squared_norm: Sum of the squared probabilities of all classes.
        n_classes: K.
        logits: (N, K), where they are at hand.
    """

    target: ClassVar[str] = "one_class"

    labels: IntArray
    predicted: IntArray
    confidence: FloatArray
    log_odds: NDArray[np.float32]
    label_log_probability: FloatArray
    label_rank: IntArray
    squared_norm: FloatArray
    n_classes: int
    logits: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Where the prediction is right."""
        return self.label_rank < 1

    @cached_property
    def class_log_odds(self) -> NDArray[np.float32]:
        """(N, K) log of p / (1 - p): the order of the probabilities, wherever they end; float32 as `log_odds`."""
        assert self.logits is not None
        step = max(1, CHUNK_VALUES // self.n_classes)
        return np.concatenate([log_odds(self.logits[i : i + step]) for i in range(0, len(self.logits), step)])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them: enough for paired tests and calibration."""
        return {
            "label": self.labels,
            "predicted": self.predicted,
            "predicted_probability": self.confidence.astype(np.float32),
            "predicted_log_odds": self.log_odds,
            "label_probability": np.exp(self.label_log_probability).astype(np.float32),
            "label_rank": self.label_rank,
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> RowScores:
        """The scores again, as far as `arrays` keeps them; what a metric `needs` says what it may look at."""
        nothing = np.empty(0)
        found = {name: arrays.get(name, nothing) for name in cls._kept}
        with np.errstate(divide="ignore"):
            log_probability = np.log(found["label_probability"].astype(np.float64))
        confidence = found["predicted_probability"].astype(np.float64)
        return cls(found["label"], found["predicted"], confidence, found["predicted_log_odds"], log_probability,
                   found["label_rank"], nothing, 0)  # fmt: skip

    _kept: ClassVar[tuple[str, ...]] = (
        "label", "predicted", "predicted_probability", "predicted_log_odds", "label_probability", "label_rank",
    )  # fmt: skip


def read(logits: NDArray[Any], labels: NDArray[Any]) -> RowScores:
    """Reads the scores of each row from its logits.

    Args:
        logits: (N, K) unnormalised log-probabilities; -inf for a class that no training row had.
        labels: (N,) class codes 0..K-1.
    """
    labels = _check(logits, labels)
    n_classes = logits.shape[1]
    step = max(1, CHUNK_VALUES // n_classes)
    parts = [_chunk(logits[i : i + step], labels[i : i + step], i) for i in range(0, len(labels), step)]
    predicted, confidence, odds, log_p, rank, norm = (np.concatenate(column) for column in zip(*parts, strict=True))
    return RowScores(labels, predicted, confidence, odds, log_p, rank, norm, n_classes, logits)


def beside(rows: RowScores, learnt: IntArray) -> dict[str, Frequencies]:
    """With the training rows of each class."""
    return {"frequency": Frequencies(rows, np.bincount(learnt, minlength=rows.n_classes))}


def graded(rows: RowScores, learnt: IntArray) -> GradedScores:
    """Grades that are the codes of the classes."""
    return GradedScores(rows.labels[:, None], rows.predicted[:, None], rows.n_classes, rows.target)


def log_odds(logits: NDArray[Any]) -> NDArray[np.float32]:
    """log p - log(1 - p) of each class, (n, K), +-inf where the others, or it, cannot be.

    It keeps the order of the probabilities where these are all 0 or 1 in floating point. The largest class's log(1 - p)
    is summed over the others; that of the rest, whose p is at most 1/2, follows from p.
    """
    logits = logits.astype(np.float64)
    rows, best = np.arange(len(logits)), logits.argmax(axis=1)
    log_p = log_softmax(logits, axis=1)
    found = log_p - np.log1p(-np.minimum(np.exp(log_p), 0.75))
    found[rows, best] = _largest_log_odds(logits, best)
    return found.astype(np.float32)


def _largest_log_odds(logits: FloatArray, best: IntArray) -> FloatArray:
    """Log-odds of the class of the largest logit, (n,)."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, best] = -np.inf
    with np.errstate(divide="ignore"):
        return logits[rows, best] - logsumexp(others, axis=1)


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
    odds = _largest_log_odds(logits, predicted).astype(np.float32)
    return predicted, p[rows, predicted], odds, log_p[rows, labels], rank, np.einsum("nk,nk->n", p, p)
