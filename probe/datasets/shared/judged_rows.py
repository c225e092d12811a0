"""Documents and queries, and which of these answer which: the partition that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.abilities import DigestsRows
from probe.core.base import IntArray, Partition, digest
from probe.core.errors import InputError
from probe.core.targets.relevance import DOCUMENT, among
from probe.datasets.shared.partitions import check_lengths
from probe.datasets.shared.subsets import subset


class JudgedPartition:
    """Documents and queries, with judgements of how well some documents answer a query.

    Args:
        rows: Both, with whatever labels.
        is_query: (N,) which are queries.
        judgements: (J, 3) row of a query, row of a document and the grade of the document; 1 or more is relevant.
        same_ids: (P, 2) rows of queries and of the documents of the same id.

    Attributes:
        labels: (N,) -1 of a document, of a query the number of its relevant documents.
    """

    def __init__(self, rows: Partition, is_query: NDArray[np.bool_], judgements: ArrayLike, same_ids: ArrayLike):
        self.rows, self.is_query = rows, np.asarray(is_query, dtype=bool)
        check_lengths({"rows": len(rows), "marks of queries": len(self.is_query)})
        self.judgements = self._checked(judgements, 3, "judgements")
        self.same_ids = self._checked(same_ids, 2, "same_ids")
        relevant = self.judgements[self.judgements[:, 2] > 0, 0]
        self.labels = np.where(self.is_query, np.bincount(relevant, minlength=len(rows)), DOCUMENT)
        if isinstance(rows, DigestsRows):
            self.row_digests = rows.row_digests

    def _checked(self, pairs: ArrayLike, width: int, name: str) -> IntArray:
        found = np.asarray(pairs, dtype=np.int64).reshape(-1, width)
        inside = ((found[:, :2] >= 0) & (found[:, :2] < len(self.is_query))).all()
        if not inside or not self.is_query[found[:, 0]].all() or self.is_query[found[:, 1]].any():
            raise InputError(f"{name} name rows that are no query and document, expected a row of each: mend them")
        if len(np.unique(found[:, :2], axis=0)) < len(found):
            raise InputError(f"{name} name a query and a document twice, expected once: leave one out")
        return found

    @property
    def ids(self) -> Sequence[str]:
        """Names of the rows."""
        return self.rows.ids

    @cached_property
    def fingerprint(self) -> str:
        """Digest of rows, ids and judgements."""
        pairs = [values.tolist() for values in (self.is_query, self.judgements, self.same_ids)]
        return digest([self.rows.fingerprint, *pairs])

    def subset(self, rows: IntArray) -> JudgedPartition:
        """Some of the rows, with the judgements among them."""
        pairs = among(self.judgements, rows), among(self.same_ids, rows)
        return JudgedPartition(subset(self.rows, rows), self.is_query[rows], *pairs)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row]
