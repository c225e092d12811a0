"""Scores of rows with several labels each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets.labels import UNKNOWN, has_unknown
from probe.metrics.shared.scores import Frequencies


@dataclass(frozen=True)
class LabelScores:
    """Of rows with several labels each.

    Attributes:
        logits: (N, K) log-odds of each label, where they are at hand.
        labels: (N, K) zeros and ones, `UNKNOWN` where it is not known.
        predicted: (N, K) labels whose log-odds are above 0.
    """

    target: ClassVar[str] = "labels"

    logits: NDArray[Any] | None
    labels: IntArray
    predicted: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N, K) where it is known whether the row has the label."""
        found: NDArray[np.bool_] = self.labels != UNKNOWN
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, (N, K) zeros and ones; -1 where a label is unknown."""
        kind = np.int8 if has_unknown(self.labels) else np.uint8
        return {"label": self.labels.astype(kind), "predicted": self.predicted.astype(np.uint8)}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> LabelScores:
        """The scores again, as far as `arrays` keeps them."""
        return cls(None, arrays["label"].astype(np.int64), arrays.get("predicted", np.empty(0)) > 0)


def read(logits: NDArray[Any], labels: NDArray[Any]) -> LabelScores:
    """Checks log-odds (N, K) and labels (N, K) of zeros and ones, or unknown ones."""
    if logits.shape != labels.shape or not np.isfinite(logits).all():
        raise InputError(
            f"log-odds have shape {logits.shape} and targets {labels.shape}, expected the same and finite numbers: "
            "the head diverged, or its features are not finite"
        )
    if not (labels == 1).any():
        raise InputError(f"none of the {len(labels)} test rows has any label, expected some: test on more rows")
    return LabelScores(logits, labels, logits > 0)


@dataclass(frozen=True)
class Thresholded:
    """Scores of the test rows, beside what validation rows say from which log-odds on a label is predicted.

    Attributes:
        thresholds: (K,) log-odds; 0 of a label that no validation row has.
        hits: (N, K) labels whose log-odds are no less.
    """

    target: ClassVar[str] = "labels"

    labels: IntArray
    thresholds: NDArray[np.float64]
    hits: NDArray[np.bool_]


def beside(rows: LabelScores, learnt: IntArray) -> dict[str, Frequencies]:
    """With the training rows that are known to have each label."""
    return {"frequency": Frequencies(rows, (learnt == 1).sum(axis=0))}


def tuned(rows: LabelScores, outputs: NDArray[Any], labels: IntArray) -> dict[str, Thresholded]:
    """With the thresholds that are best on validation rows."""
    limits = np.array([best_threshold(*column) for column in zip(outputs.T, labels.T, strict=True)])
    assert rows.logits is not None
    return {"thresholds": Thresholded(rows.labels, limits, rows.logits >= limits)}


def best_threshold(log_odds: NDArray[Any], labels: IntArray) -> float:
    """The log-odds from which on a label is predicted for the largest F1 on rows of which it is known.

    Half way between the two rows that it parts, and of equal ones the nearest to 0; 0 where no row has the label.
    Source of the rule: Z. Lipton, C. Elkan, B. Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1
    Measure", 2014, arXiv 1402.1892.
    """
    known = labels != UNKNOWN
    scores, hits = log_odds[known].astype(np.float64), labels[known] == 1
    if not hits.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    f1 = 2 * found[last] / (last + 1 + hits.sum())
    below = np.append(scores[1:], -np.inf)[last]
    between = np.where(np.isfinite(below), (scores[last] + below) / 2, scores[last])
    # Any number between two rows parts them: 0 where it lies there.
    between = np.where((below < 0) & (scores[last] >= 0), 0.0, between)
    best = np.flatnonzero(f1 > f1.max() - 1e-12)
    return float(between[best[np.abs(between[best]).argmin()]])
