"""What a batch of a stream has to be: rows of the width, and of the classes, that the first call named."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.magnitudes import check_features
from probe.heads.shared.head import Head


def check_stream(head: Head, X: Any, y: ArrayLike, classes: ArrayLike | None, *, begun: bool) -> tuple[Any, IntArray]:
    """Checked rows and class codes of a batch; the first one sets what the head knows of width and classes."""
    if not begun:
        if classes is None:
            raise InputError("classes is None in the first call of partial_fit: name every class that may come")
        rows = head._check_rows(X, reset=True)
        head._check_labels(classes, len(np.asarray(classes)))
    else:
        rows = head._check_rows(X, reset=False)
        if classes is not None and not np.array_equal(np.unique(classes), head.classes_):
            raise InputError(
                f"classes={np.unique(classes)} differ from those of the first call, {head.classes_}: name the same"
            )
    check_features(rows, warn=False)  # of a batch of few rows, what it varies by says nothing of the stream
    return rows, _known_codes(head, y, len(rows))


def _known_codes(head: Head, y: ArrayLike, n_rows: int) -> IntArray:
    labels = plain_array(y, "y").ravel()
    if len(labels) != n_rows:
        raise InputError(f"X has {n_rows} rows and y {len(labels)}: give one label per row")
    codes = head._validation_codes(labels)
    if (codes < 0).any():
        unknown = np.unique(labels[codes < 0])
        raise InputError(f"y holds {unknown}, the classes are {head.classes_}: name all classes in the first call")
    return codes
