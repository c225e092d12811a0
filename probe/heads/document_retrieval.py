"""Document retrieval: how well the similarity of features finds the documents that are relevant for a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets.relevance import DOCUMENT
from probe.heads.shared.base import AnyHead, Validation, check_lazy
from probe.heads.shared.cross_ranks import judged_ranks
from probe.heads.shared.forecast import Forecast, Shapes
from probe.metrics.shared.scores.relevance import RelevanceScores

METRICS = ("cosine", "dot")


class DocumentRetrieval(AnyHead):
    """Puts the documents of a dataset in the order of their similarity with each query; nothing is fitted.

    Metrics: `ndcg_at_10`, which BEIR ranks by, `map_at_100`, `recall_at_100` and `mrr_at_10`, as trec_eval has them,
    with intervals for new queries. All test documents are looked through, those without a judgement too, which count
    as not relevant; a query without a relevant one counts for none.

    Source: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval Models",
    2021, arXiv 2104.08663; Muennighoff et al., "MTEB", 2023, arXiv 2210.07316. Departures: of equal similarities the
    document that comes first in the corpus, where trec_eval takes the higher name; a query whose documents all have
    grade 0 counts for none, where trec_eval has it at 0.

    Args:
        metric: `cosine`, or `dot` product for models that were trained by it.
        ignore_identical_ids: Whether a query is not shown the document of its own id, as BEIR has it; MTEB does so in
            tasks that say so, such as ArguAna, where queries are documents.
        judgements: (J, 3) test row of a query and of a document, and its grade. A run fills it in.
        same_ids: (P, 2) test rows of queries and of documents of the same id. A run fills it in.
        device: Where similarities are computed; `auto` is CUDA when there is one.

    Attributes:
        n_features_in_: Width of the rows that were measured last.
    """

    fits: ClassVar[tuple[str, ...]] = ("relevance",)
    n_features_in_: int

    def __init__(
        self,
        metric: str = "cosine",
        ignore_identical_ids: bool = True,
        judgements: ArrayLike | None = None,
        same_ids: ArrayLike | None = None,
        device: str = "auto",
    ):
        self.metric = metric
        self.ignore_identical_ids = ignore_identical_ids
        self.judgements = judgements
        self.same_ids = same_ids
        self.device = device

    def check_parameters(self) -> None:
        """Refuses another metric."""
        if self.metric not in METRICS:
            raise InputError(f"metric is {self.metric!r}, expected {' or '.join(METRICS)}: set head.metric=cosine")

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        """Nothing is fitted."""
        return Forecast(0, 0.0)

    def fit(self, X: Any, y: Any, *, validation: Validation | None = None) -> Self:
        """Learns nothing; rows take no part, and there need be none."""
        self.check_parameters()
        return self

    def measure(
        self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = "relevance"
    ) -> Mapping[str, RelevanceScores]:
        """Scores of the rows X (N, D), of which y (N,) says what they are: -1 a document, else a query.

        Raises:
            InputError: No judgements, such as are not of these rows, or none of a relevant document.
        """
        X, y = self._check_rows(X, reset=True), np.asarray(y)
        check_lazy(X)
        if self.judgements is None or len(y) != len(X):
            raise InputError(
                f"document_retrieval has {'no' if self.judgements is None else 'its'} judgements, {len(X)} rows and "
                f"{len(y)} labels, expected (J, 3) judgements of the rows and a label for each: run it with "
                "dataset=beir, or give them"
            )
        queries, documents = np.flatnonzero(y != DOCUMENT), np.flatnonzero(y == DOCUMENT)
        judged = _of_rows(self.judgements, 3, y, "judgements")
        judged = judged[judged[:, 2] > 0]
        if not len(judged):
            raise InputError(
                f"none of the {len(queries)} queries among {len(y)} test rows has a relevant document among them: test "
                "on all rows"
            )
        hidden = _of_rows(() if self.same_ids is None else self.same_ids, 2, y, "same_ids")
        asked = np.unique(judged[:, 0])
        hidden = hidden[np.isin(hidden[:, 0], asked)][: None if self.ignore_identical_ids else 0]
        pairs = [np.stack([np.searchsorted(asked, p[:, 0]), np.searchsorted(documents, p[:, 1])], axis=1)
                 for p in (judged, hidden)]  # fmt: skip
        ranks = judged_ranks(X[asked], X[documents], *pairs, cosine=self.metric == "cosine", device=self.device)
        return {"relevance": RelevanceScores.of(y, judged[:, 0], ranks, judged[:, 2])}


def _of_rows(given: ArrayLike, width: int, y: NDArray[Any], name: str) -> IntArray:
    """(n, width) whose first two columns are rows of a query and of a document."""
    pairs = np.asarray(given, dtype=np.int64).reshape(-1, width)
    rows = pairs[:, :2]
    inside = ((rows >= 0) & (rows < len(y))).all()
    if not inside or (y[rows[:, 0]] == DOCUMENT).any() or (y[rows[:, 1]] != DOCUMENT).any():
        raise InputError(
            f"{name} names rows that are no query and document of the {len(y)}, expected row numbers of both: give "
            "those of these rows"
        )
    return pairs
