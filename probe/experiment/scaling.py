"""Features at mean 0 and variance 1 over the training rows: a step ahead of any head that reads one vector per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import RowSubset, Scaled
from probe.core.base import Dataset, SplitProtocol
from probe.core.errors import DoesNotFit, InputError
from probe.core.rows import rows_of
from probe.heads.shared.moments import ClassMoments
from probe.protocols.shared.tasks import ComesInTasks

if TYPE_CHECKING:
    from probe.heads.shared.base import AnyHead

CHOICES = (False, True, "vectors")


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each feature, (D,); a constant feature has the deviation 1."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, X: Any) -> Scaling:
        """Those of rows (N, D), which may be larger than memory."""
        moments = ClassMoments(1, X.shape[1], second="diagonal").update(X, np.zeros(len(X), dtype=np.int64))
        deviation = np.sqrt(moments.total() / moments.n_rows)
        return cls(moments.mean, np.where(deviation > 0, deviation, 1.0))

    def __call__(self, X: Any) -> Any:
        """The rows scaled, when they are read."""
        if isinstance(X, RowSubset):
            return RowSubset(Scaled(X.array, self.mean, self.deviation), X.indices)
        return None if X is None else Scaled(X, self.mean, self.deviation)

    def keep_in(self, head: AnyHead) -> None:
        """From here on a fitted head takes features as they are."""
        head.feature_mean_, head.feature_deviation_ = self.mean, self.deviation


def standardizes(asked: bool | str, dataset: Dataset) -> bool:
    """Whether a run scales its features: `true`, or `vectors` and the rows are numbers as they are."""
    return asked is True or (asked == "vectors" and rows_of(dataset) == "vectors")


def check_standardize(asked: bool | str, dataset: Dataset, protocol: SplitProtocol, head: AnyHead) -> None:
    """Refuses heads and protocols for which there is no one scale of the training rows."""
    if asked not in CHOICES:
        raise InputError(f"standardize is {asked!r}, expected true, false, or vectors for rows of numbers: set one")
    if not standardizes(asked, dataset):
        return
    if head.consumes != ("pooled",) or head.reads_texts:
        what = "texts beside images" if head.reads_texts else ", ".join(head.consumes)
        raise DoesNotFit(
            f"standardize={asked} scales one vector per row, head {type(head).__name__} reads {what}: set "
            "standardize=false"
        )
    if not dataset.target.learnt:
        raise InputError(
            f"standardize={asked} wants training rows, dataset {dataset.name} has none: set standardize=false"
        )
    if isinstance(protocol, ComesInTasks):
        raise InputError(
            f"standardize={asked} wants all training rows at once, protocol {protocol.name} gives them task by task: "
            "set standardize=false"
        )
