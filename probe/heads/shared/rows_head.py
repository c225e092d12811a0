"""Heads that keep the rows they are fitted on, and look up the nearest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.arrays import CHUNK_BYTES, RowStack, RowSubset, row_chunks
from probe.core.base import IntArray
from probe.heads.shared.head import Head, Validation, is_lazy
from probe.heads.shared.neighbours import Found, Neighbours
from probe.heads.shared.streaming import check_stream

SEARCH_VALUES = 2**23
"""Neighbours of all queries that are searched for at once."""


class RowsHead(Head):
    """A head whose training rows answer for it: it streams by adding rows.

    A subclass has a parameter `device` and gives `_settle`. Rows in files stay there.

    Attributes:
        rows_: (N, D); a saved head refers to those that lie in the feature store.
        codes_: (N,) their class codes.
        class_count_: (K,) rows per class.
        centre_, spread_: (D,) mean of the rows, and their root mean square distance from it.
    """

    device: str
    rows_: Any
    codes_: IntArray
    class_count_: IntArray
    centre_: NDArray[np.float64]
    spread_: float

    def _settle(self) -> Self:
        """Finishes a fit on the rows that are remembered, without any others."""
        raise NotImplementedError

    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far; equals `fit` on all of them, in this order.

        The first call names all `classes`; a batch may lack some of them. A choice among candidates is made anew.
        """
        self.check_parameters()
        rows, codes = self._batch(X, y, classes)
        rows = rows if is_lazy(rows) else np.array(rows)  # the caller may use its memory for the next batch
        before = [(self.rows_, self.codes_)] if hasattr(self, "rows_") else []
        self._remember([*before, (rows, codes)])
        return self._settle()

    def _parts(self, X: Any, y: ArrayLike, validation: Validation | None) -> list[tuple[Any, IntArray]]:
        return self._check_parts(X, y, validation)

    def _batch(self, X: Any, y: ArrayLike, classes: ArrayLike | None) -> tuple[Any, IntArray]:
        return check_stream(self, X, y, classes, begun=hasattr(self, "rows_"))

    def _remember(self, parts: list[tuple[Any, IntArray]]) -> None:
        """Keeps rows and codes of the parts, one after the other."""
        arrays = [array for X, _ in parts for array in (X.parts if isinstance(X, RowStack) else [X])]
        self.rows_ = arrays[0] if len(arrays) == 1 else RowStack(arrays)
        self.codes_ = np.concatenate([codes for _, codes in parts])
        self.class_count_ = self._counts(self.codes_)
        found = Neighbours(self.rows_, device=self.device)
        self.centre_, self.spread_ = found.centre, found.spread

    def _counts(self, codes: IntArray) -> IntArray:
        return np.bincount(codes, minlength=len(self.classes_))

    def _search(
        self, X: Any, k: int, metrics: Sequence[str], own: IntArray | None = None
    ) -> Iterator[dict[str, Found]]:
        """Neighbours of the rows of X, in chunks; with `own`, of these rows of X, each without itself."""
        index = Neighbours(self.rows_, self.centre_, self.spread_, device=self.device)
        queries = X if own is None else RowSubset(X, own)
        k = min(k, len(self.rows_) - (own is not None))
        at_once = min(CHUNK_BYTES, SEARCH_VALUES // (k + 1) * 4 * X.shape[1])
        for rows in row_chunks(queries, at_once):
            if own is None:
                yield index.nearest(queries[rows], k, metrics)
            else:
                found = index.nearest(queries[rows], k + 1, metrics)
                yield {metric: one.without(own[rows]) for metric, one in found.items()}

    def __getstate__(self) -> dict[str, Any]:
        """With the rows themselves: a file that they lie in may not be where the copy goes."""
        state = super().__getstate__()
        return state | {"rows_": np.asarray(state["rows_"][:])} if "rows_" in state else state
