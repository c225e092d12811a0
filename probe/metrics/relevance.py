"""How well documents are found by queries: BEIR, the retrieval tasks of MTEB.

Each is a mean over the queries that have a relevant document, of values as trec_eval has them; names are those of MTEB.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from probe.metrics.retrieval import over_queries
from probe.metrics.shared.intervals import FloatArray, Interval, between
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.scores.relevance import NAMES, RelevanceScores


def mean(scores: RelevanceScores, name: str) -> Statistic:
    """Mean of a measure over the queries."""
    return over_queries(scores.of_query[:, NAMES.index(name)].astype(np.float64))


def for_other_queries(scores: RelevanceScores, means: FloatArray, seed: int, *, name: str) -> Interval:
    """For other queries of the same documents."""
    n_queries = int((~np.isnan(scores.of_query[:, NAMES.index(name)])).sum())
    return between(*mean(scores, name), float(n_queries))


METRICS = tuple(
    Metric(
        name=name, targets=("relevance",), reads="relevance", of_all=partial(mean, name=name),
        interval=partial(for_other_queries, name=name), needs=("label", "of_query"), proportion=True, unit="%",
        shown=name == NAMES[0],
    )
    for name in NAMES
)  # fmt: skip
