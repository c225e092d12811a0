"""One class per row: codes (N,) from 0 to K - 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.targets import IGNORED, Codes, Target, not_whole
from probe.core.words import counted


@dataclass(frozen=True)
class OneClass(Target):
    """Each row has one of the classes, as an int64 code; a head gives logits (N, K).

    Attributes:
        ordered: Whether the classes are grades, in the order of their codes.
    """

    name: ClassVar[str] = "one_class"
    phrase: ClassVar[str] = "one class per row"
    exclusive: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True

    ordered: bool = False

    def in_order(self) -> Target:
        return replace(self, ordered=True)

    @property
    def facts(self) -> dict[str, Any]:
        """Whether the classes have an order."""
        return {"ordered": True} if self.ordered else {}

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the codes of a partition; each class needs a row in train."""
        n_classes = len(class_names)
        if labels.shape != (len(labels),):
            return [f"{part} has labels of shape {labels.shape}, which are not {self.phrase}"]
        if len(labels) == 0:
            return [f"{part} has no rows"]
        outside = np.flatnonzero(not_whole(labels) | (labels < 0) | (labels >= n_classes))
        if len(outside):
            row = int(outside[0])
            where = f" ({ids[row]})" if len(ids) else ""
            return [
                f"{part} has {counted(len(outside), 'label')} out of range, the first is {labels[row]} in row "
                f"{row}{where}, "
                f"where 0 to {n_classes - 1} can be"
            ]
        empty = np.flatnonzero(self.counts(labels, n_classes) == 0)
        if part != "train" or not len(empty):
            return []
        names = ", ".join(class_names[k] for k in empty[:3]) + (", ..." if len(empty) > 3 else "")
        return [f"train ({len(labels)} rows) has no row of {len(empty)} of {n_classes} classes ({names})"]

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Those whose code is `IGNORED`."""
        found: NDArray[np.bool_] = np.asarray(labels) == IGNORED
        return found

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """The classes."""
        return labels

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(K,) rows of each class."""
        return np.bincount(labels, minlength=n_classes)

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """The name of the class."""
        return class_names[int(label)]


ONE_CLASS = OneClass()
"""What a dataset declares unless it says otherwise."""
