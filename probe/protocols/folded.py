"""Choosing hyper-parameters on folds of training sets that are too small for a validation part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from probe.arrays import RowSubset
from probe.base import IntArray
from probe.estimator import Head


def fit_on_folds(head: Head, X: Any, y: IntArray, folds: IntArray) -> Head:
    """Fits a head on all rows with the candidate that scores best over the folds of these rows.

    Each fold validates a clone that is fitted on the other rows; the scores of a candidate are averaged over rows. Few
    rows leave many ties, often between all candidates: the middle one of the best wins, neither end of the grid. A
    head that does not name in `searches` what it chooses is fitted once, without validation.

    Args:
        head: Is fitted; its parameter with the candidates is set to the one chosen.
        X: Features, or a mapping of them.
        y: (n,) labels.
        folds: (n,) fold in which a row is held out, -1 for never.
    """
    from sklearn.base import clone

    if head.searches is None:
        return head.fit(X, y)
    parameter, name = head.searches
    scores: dict[float, float] = {}
    for fold in np.unique(folds[folds >= 0]):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        part = clone(head).fit(_rows(X, outside), y[outside], validation=(_rows(X, inside), y[inside]))
        for entry in part.selection_["searched"]:
            scores[entry[name]] = scores.get(entry[name], 0.0) + float(entry["score"]) * len(inside)
    n = int((folds >= 0).sum())
    highest = max(scores.values())
    tied = sorted(value for value, score in scores.items() if score > highest - 1e-9)
    best = tied[(len(tied) - 1) // 2]
    head.set_params(**{parameter: [best]}).fit(X, y)
    head.selection_ = {
        "on": f"{len(np.unique(folds[folds >= 0]))} folds of the training rows",
        "searched": [{name: value, "score": score / n} for value, score in scores.items()],
        "chosen": {name: best},
    }
    return head


def _rows(X: Any, indices: IntArray) -> Any:
    if isinstance(X, Mapping):
        return {kind: RowSubset(array, indices) for kind, array in X.items()}
    return RowSubset(X, indices)
