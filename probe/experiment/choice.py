"""What the head that was chosen said of the rows that it was chosen on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from probe.core.arrays import rows_of
from probe.core.base import IntArray
from probe.core.targets import Target
from probe.experiment.choosing import FOLDS, OF_FOLDS
from probe.experiment.outputs import outputs_of
from probe.experiment.reading import ReadRows
from probe.heads.shared.base import AnyHead


@dataclass(frozen=True)
class Chosen:
    """Outputs for rows that the fit behind them did not see.

    Attributes:
        outputs: (n, K) over all classes of the dataset, before the refit on all rows, or out of fold.
        labels: Of the rows, those that the choice saw.
        rows: (n,) their numbers in the partition.
    """

    outputs: NDArray[Any]
    labels: NDArray[Any]
    rows: IntArray


def chosen_on(
    head: AnyHead, rows: ReadRows, extras: Mapping[str, Any], target: Target, n_classes: int
) -> Chosen | None:
    """The outputs by which a fitted head was chosen; None where it did not choose on rows that the split names,
    and of masks.

    Args:
        head: Fitted.
        rows: Of the run.
        extras: Further arguments of `fit`, such as teacher logits.
        target: Of the dataset.
        n_classes: Of the dataset.
    """
    if rows.train.places is not None:
        return None  # their pixels are many, and no later step reads them
    if rows.folds is not None and getattr(head, "selection_", {}).get("on", "").endswith(FOLDS):
        return out_of_fold(head, rows, rows.folds, extras, target, n_classes)
    before, validation = head.before_refit(), rows.validation
    if before is None or not len(validation.y):
        return None
    return Chosen(outputs_of(before, validation.X, target, n_classes), validation.y, validation.rows)


def out_of_fold(
    head: AnyHead, rows: ReadRows, folds: IntArray, extras: Mapping[str, Any], target: Target, n_classes: int
) -> Chosen:
    """Outputs for every row that has a fold, by what was chosen, fitted on the rows of all others."""
    X, y = rows.train.X, rows.train.y
    insides = [np.flatnonzero(folds == fold) for fold in np.unique(folds[folds >= 0])]
    kept: dict[int, AnyHead] = getattr(head, OF_FOLDS, {})
    fits: Iterable[AnyHead] = [kept[fold] for fold in np.unique(folds[folds >= 0]).tolist() if fold in kept]
    if not kept:
        outsides = [np.flatnonzero(folds != folds[inside[0]]) for inside in insides]
        fits = clone(head).fit_splits(X, y, [(outside, None) for outside in outsides], **extras)
    parts = [target.outputs(fit, rows_of(X, inside), n_classes) for inside, fit in zip(insides, fits, strict=True)]
    places = np.concatenate(insides)
    order = np.argsort(places)
    places = places[order]
    return Chosen(np.concatenate(parts)[order], y[places], rows.train.rows[places])
