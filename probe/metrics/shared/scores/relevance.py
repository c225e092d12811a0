"""Scores of queries, each with documents that are relevant for it, by the ranks of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray

NDCG_AT, MRR_AT, DEEP = 10, 10, 100
"""Ranks down to which nDCG, the reciprocal rank, and average precision and recall are measured."""
NAMES = (f"ndcg_at_{NDCG_AT}", f"map_at_{DEEP}", f"recall_at_{DEEP}", f"mrr_at_{MRR_AT}")
"""Of the measures of a query, in their order."""


@dataclass(frozen=True)
class RelevanceScores:
    """Of N rows, documents and queries.

    Attributes:
        labels: (N,) -1 of a document, of a query the number of its relevant documents.
        of_query: (N, 4) float32, the measures that `NAMES` names of each query; NaN of a document, and of a query
            without a relevant document among the rows.
    """

    target: ClassVar[str] = "relevance"

    labels: IntArray
    of_query: NDArray[np.float32]
    logits: None = None

    @classmethod
    def of(cls, labels: IntArray, queries: IntArray, ranks: NDArray[np.float64], grades: IntArray) -> RelevanceScores:
        """From the rank of each relevant document of each query, as trec_eval measures.

        nDCG has the grade as gain and log2(rank + 1), with ranks from 1, as discount, over that of the best order of
        all relevant documents; average precision and recall are over the number of these.

        Args:
            labels: As above.
            queries: (J,) row of the query.
            ranks: (J,) of the document, from 0; infinite if it is not found.
            grades: (J,) 1 or more.
        """
        order = np.lexsort((ranks, queries))
        queries, ranks, grades = queries[order], ranks[order], grades[order]
        # Documents of a query stand together, in either order in the same places.
        number = np.arange(len(queries)) - np.searchsorted(queries, queries)
        best = grades[np.lexsort((-grades, queries))] / np.log2(number + 2)

        def total(values: NDArray[Any], counts: NDArray[np.bool_]) -> NDArray[Any]:
            return np.bincount(queries, np.where(counts, values, 0.0), minlength=len(labels))

        n = np.bincount(queries, minlength=len(labels)).astype(np.float64)
        n[n == 0] = np.nan
        ideal = np.where(np.isnan(n), np.nan, total(best, number < NDCG_AT))
        found = [
            total(grades / np.log2(ranks + 2), ranks < NDCG_AT) / ideal,
            total((number + 1) / (ranks + 1), ranks < DEEP) / n,
            total(np.ones(len(ranks)), ranks < DEEP) / n,
            np.where(np.isnan(n), np.nan, total(1 / (ranks + 1), (number == 0) & (ranks < MRR_AT))),
        ]
        return cls(labels, np.stack(found, axis=1).astype(np.float32))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps."""
        return {"label": self.labels, "of_query": self.of_query}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> RelevanceScores:
        """From what a run kept."""
        return cls(arrays["label"], arrays["of_query"])
