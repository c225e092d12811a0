"""Relevance judgements: which documents answer a query, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.targets import Codes, Target
from probe.core.words import counted

DOCUMENT = -1
"""Label of a document."""
MEANING = "-1 of documents, and of queries how many relevant documents each has"
"""What labels are, for errors."""


@runtime_checkable
class HasJudgements(Protocol):
    """A partition of documents and queries; its `labels` are those of `Relevance`.

    Attributes:
        judgements: (J, 3) row of a query, row of a document, and the grade of the document for the query, relevant
            from 1 on; a document that is not judged is not relevant.
        same_ids: (P, 2) rows of queries and of the documents of the same id.
    """

    @property
    def judgements(self) -> IntArray: ...
    @property
    def same_ids(self) -> IntArray: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Relevance(Target):
    """Rows are documents and queries; nothing is learnt from them, documents are looked for by queries.

    `labels` of a partition are (N,) int64: -1 of a document, of a query the number of its relevant documents. There are
    no classes, so a dataset has no names. It needs the partition `test` alone.
    """

    name: ClassVar[str] = "relevance"
    phrase: ClassVar[str] = "relevance judgements"
    learnt: ClassVar[bool] = False
    declared: ClassVar[str] = "set dataset=beir"
    least_names: ClassVar[int] = 0

    def expected(self, class_names: Sequence[str]) -> str:
        """Documents and a query that some answer."""
        return "documents, and a query that has a relevant one: add them"

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the roles of the rows of a partition."""
        if labels.shape != (len(labels),) or labels.dtype.kind not in "iu" or (labels < DOCUMENT).any():
            return [f"{part} has labels of {labels.dtype} and shape {labels.shape}, not {MEANING}"]
        n_queries = int((labels != DOCUMENT).sum())
        n_of = {"document": len(labels) - n_queries, "query": n_queries}
        if lacking := [f"{part} has no {what}" for what, n in n_of.items() if not n]:
            return lacking
        if (labels > 0).any():
            return []
        has = counted(n_queries, "query", "queries")
        return [f"{part} has {has}, none with a relevant document among its {len(labels)} rows (limit=null keeps all)"]

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """One for all rows."""
        return np.zeros(len(labels), dtype=np.int64)

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(0,): there are no classes."""
        return np.zeros(n_classes, dtype=np.int64)

    def described(self, labels: NDArray[Any], class_names: Sequence[str]) -> tuple[str, str, str]:
        """How many documents and queries there are, and how many documents are relevant for a query."""
        of_queries = labels[labels != DOCUMENT]
        n_documents, without = len(labels) - len(of_queries), int((of_queries == 0).sum())
        spread = f"{of_queries.min()} to {of_queries.max()}, median {np.median(of_queries):g}"
        return (
            f"{counted(n_documents, 'document')} and {counted(len(of_queries), 'query', 'queries')}",
            "relevant/query",
            spread + (f"; {counted(without, 'query', 'queries')} without any" if without else ""),
        )

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """A run keeps the role of each row."""
        return "" if labels.ndim == 1 and bool((labels >= DOCUMENT).all()) else f"are not {MEANING}"

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """A document, or for how many a query asks."""
        return "document" if label == DOCUMENT else f"query of {counted(int(label), 'relevant document')}"


RELEVANCE = Relevance()


def among(pairs: IntArray, rows: IntArray) -> IntArray:
    """The pairs (n, 2 or more) whose first two columns, numbers of rows, are both among some, by their places there."""
    order = np.argsort(rows)
    at = np.searchsorted(rows, pairs[:, :2], sorter=order).clip(max=len(rows) - 1)
    places = order[at]
    kept = (rows[places] == pairs[:, :2]).all(axis=1)
    return np.concatenate([places[kept], pairs[kept, 2:]], axis=1)
