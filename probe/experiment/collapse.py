"""Neural collapse of the features and the fitted head of a run, where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.errors import DoesNotFit
from probe.experiment.identity import head_name
from probe.metrics.shared.collapse import of_means, of_weights, within_between
from probe.ood.shared.score import NOT_LINEAR, Known

if TYPE_CHECKING:
    from probe.experiment.fitting import Fitted
    from probe.experiment.reading import ReadRows
    from probe.experiment.request import Run


def check_collapse(request: Run) -> None:
    """Refuses runs whose rows have no class each, or whose head reads no vectors."""
    if not request.neural_collapse:
        return
    target, head = request.dataset.target, request.head
    if not target.exclusive or head.consumes != ("pooled",) or not hasattr(head, "logits"):
        what = target.phrase if not target.exclusive else f"head {head_name(head)} reading {', '.join(head.consumes)}"
        raise DoesNotFit(
            f"neural_collapse=true measures class means of one vector per row, dataset {request.dataset.name} has "
            f"{what}: leave it out"
        )


def collapse(rows: ReadRows, fitted: Fitted) -> dict[str, Any]:
    """NC1 to NC4 of the training and of the test rows; what needs a linear head is left out of others, with the reason.

    NC4 is the share of rows for which the head predicts another class than that of the nearest class mean.
    """
    known = Known(rows.train.X, rows.train.y, fitted.head)
    found = {"train": _of(known, known, rows.train.X, rows.train.y)}
    tested = Known(rows.test.X, rows.test.y, fitted.head)
    if np.isin(np.unique(rows.train.y), rows.test.y).all():
        found["test"] = _of(tested, known, rows.test.X, rows.test.y)
    return found if known.linear else {**found, "left_out": f"nc2_weights, nc3, nc3_difference: {NOT_LINEAR}"}


def _of(part: Known, known: Known, X: Any, y: IntArray) -> dict[str, float]:
    moments = part.moments
    told = {"nc1": within_between(moments.counts, moments.means, moments.within()), **of_means(moments.means)}
    if known.linear is not None and len(known.linear[0]) == len(moments.means):
        told |= of_weights(known.linear[0], moments.means)
    off = 0
    for chunk in row_chunks(X):
        block = np.asarray(X[chunk], dtype=np.float64) - known.moments.mean
        centres = known.moments.means - known.moments.mean
        nearest = (2 * block @ centres.T - (centres**2).sum(axis=1)).argmax(axis=1)
        off += int((known.logits(X[chunk]).argmax(axis=1) != nearest).sum())
    return {**told, "nc4": off / len(y)}
