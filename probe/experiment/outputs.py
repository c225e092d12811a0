"""What a fitted head says of rows: in memory, or computed chunk by chunk where memory is for other things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import rows_of
from probe.core.base import IntArray
from probe.core.lazy import Outputs
from probe.core.targets import Target
from probe.heads.shared.base import AnyHead

HELD_BYTES = 2**30
"""Logits up to this size are held; larger ones are computed when rows of them are asked for."""


def outputs_of(head: AnyHead, X: Any, target: Target, n_classes: int) -> NDArray[Any]:
    """(N, K) over all classes of the dataset, as `Target.outputs` has it; looks like an array where it is none.

    Metrics of one class per row read logits once, in chunks; those of several labels want all rows of a label.
    """
    n_rows = len(next(iter(X.values())) if isinstance(X, Mapping) else X)
    if not target.exclusive or n_rows * n_classes * np.dtype(np.float32).itemsize <= HELD_BYTES:
        return target.outputs(head, X, n_classes)

    def of_rows(rows: IntArray) -> NDArray[Any]:
        return target.outputs(head, rows_of(X, rows), n_classes)

    return cast(NDArray[Any], Outputs(of_rows, (n_rows, n_classes)))
