"""Scores of rows with several labels each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError


@dataclass(frozen=True)
class LabelScores:
    """Of rows with several labels each.

    Attributes:
        logits: (N, K) log-odds of each label, where they are at hand.
        labels: (N, K) zeros and ones.
        predicted: (N, K) labels whose log-odds are above 0.
    """

    target: ClassVar[str] = "labels"

    logits: NDArray[Any] | None
    labels: IntArray
    predicted: NDArray[np.bool_]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, (N, K) zeros and ones."""
        return {"label": self.labels.astype(np.uint8), "predicted": self.predicted.astype(np.uint8)}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> LabelScores:
        """The scores again, as far as `arrays` keeps them."""
        return cls(None, arrays["label"].astype(np.int64), arrays.get("predicted", np.empty(0)) > 0)


def read(logits: NDArray[Any], labels: NDArray[Any]) -> LabelScores:
    """Checks log-odds (N, K) and labels (N, K) of zeros and ones."""
    if logits.shape != labels.shape or not np.isfinite(logits).all():
        raise InputError(
            f"log-odds have shape {logits.shape} and targets {labels.shape}, expected the same and finite numbers: "
            "the head diverged, or its features are not finite"
        )
    if not labels.any():
        raise InputError(f"none of the {len(labels)} test rows has any label, expected some: test on more rows")
    return LabelScores(logits, labels, logits > 0)
