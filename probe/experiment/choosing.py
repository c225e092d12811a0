"""What a head is chosen on: validation rows, or folds where the training rows are few or belong to groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.heads.shared.abilities import FitsOnFolds
from probe.heads.shared.base import AnyHead

OF_FOLDS = "_of_folds"
"""Attribute of a head that folds chose: by fold, what was chosen, fitted without it; where that cost no further fit."""
FOLDS = "folds of the training rows"
"""Ends what `selection_` says where these chose; the parameters of the head are then those that won."""

NO_SCORE = -float(np.finfo(np.float32).max)
"""Of what diverged on a fold: finite, as a record holds it."""


def fit(head: AnyHead, train: Any, validation: Any, folds: IntArray | None, extras: Mapping[str, Any]) -> AnyHead:
    """Fits a head and returns it.

    Args:
        head: Unfitted; it is this one that is fitted, with the parameters that were chosen on folds.
        train: Features and labels of the training rows.
        validation: Features and labels of the validation rows; labels may be empty.
        folds: Fold of each training row that is held out to choose on, -1 for never; None where validation rows or
            nothing serve that. With -1 alone nothing may be held out, not even by the head itself.
        extras: Further arguments of `fit`, such as teacher logits.
    """
    X, y = train
    try:
        if folds is not None:
            return fit_on_folds(head, X, y, folds, extras)
        return head.fit(X, y, validation=validation if len(validation[1]) else None, **extras)
    except RuntimeError as error:
        # By its name: heads without torch do not wait for its import.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        raise InputError(
            f"the GPU ran out of memory while {type(head).__name__} was fitted on {len(y)} rows: run fewer jobs on it "
            "at once, or set device=cpu"
        ) from error


def remarks(selection: Mapping[str, Any] | None) -> list[str]:
    """What makes a choice doubtful: it lies at an end of what was searched, or others scored as well."""
    if not selection or len(searched := selection.get("searched", [])) < 2:
        return []
    told = []
    for name, value in selection["chosen"].items():
        tried = sorted({candidate[name] for candidate in searched if isinstance(candidate.get(name), int | float)})
        if len(tried) > 2 and value in (tried[0], tried[-1]):
            told.append(f"{name} is the {'smallest' if value == tried[0] else 'largest'} of {len(tried)} searched")
    best = max(candidate["score"] for candidate in searched)
    n_best = sum(candidate["score"] > best - 1e-9 for candidate in searched)
    if n_best > 1:
        told.append(f"{n_best} of {len(searched)} candidates score the same")
    return told


def fit_on_folds(head: AnyHead, X: Any, y: IntArray, folds: IntArray, extras: Mapping[str, Any]) -> AnyHead:
    """Chooses by the mean score over the folds, then fits what was chosen on all rows.

    A head that searches nothing is fitted on all rows at once. Where no row may be held out, the middle one of the
    candidates is taken, whatever their scores on the rows themselves. Each fold is searched with the head's own means:
    its `selection_` names candidates, and `only` says which parameters leave one of them.
    """
    if isinstance(head, FitsOnFolds):
        fitted: AnyHead = head.fit_on_folds(X, y, folds)
        return fitted
    scores: defaultdict[str, list[float]] = defaultdict(list)
    candidates: dict[str, dict[str, Any]] = {}
    # Nothing is taken from the other folds by a refit, which would only cost time.
    quick = {"refit": False} if "refit" in head.get_params(deep=False) else {}
    numbers = np.unique(folds[folds >= 0])
    splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in numbers]
    splits = splits or [(np.arange(len(y)), np.arange(len(y)))]
    trials = []
    for trial in clone(head).set_params(**quick).fit_splits(X, y, splits, **extras):
        trials.append(trial)
        selection = getattr(trial, "selection_", None)
        if selection is None or selection["on"] != "validation":
            return head.fit(X, y, **extras)
        for candidate in selection["searched"]:
            values = {key: value for key, value in candidate.items() if key in selection["chosen"]}
            candidates[str(values)] = values
            scores[str(values)].append(candidate["score"] if len(numbers) else 0.0)
    # What diverged on a fold has no score, and is no best.
    means = {key: float(np.mean(values)) if np.isfinite(values).all() else NO_SCORE for key, values in scores.items()}
    # Few rows leave many ties, often between all candidates: the middle one, not an end of the grid.
    tied = [key for key, mean in means.items() if mean >= max(means.values()) - 1e-9]
    best = tied[(len(tied) - 1) // 2]
    head = head.set_params(**head.only(candidates[best])).fit(X, y, **extras)
    head.selection_ = {
        "on": f"{len(numbers)} {FOLDS}" if len(numbers) else "nothing, for want of rows",
        "searched": [values | {"score": means[key]} for key, values in candidates.items()] if len(numbers) else [],
        "chosen": candidates[best],
    }
    of_folds = [trial.at(candidates[best]) for trial in trials]
    if len(numbers) and all(fitted is not None for fitted in of_folds):
        head.__dict__[OF_FOLDS] = dict(zip(numbers.tolist(), of_folds, strict=True))
    return head
