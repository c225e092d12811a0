"""What training rows that a second fit never sees say of a run: temperature, conformal sets, intervals of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone

from probe.core.arrays import rows_of
from probe.core.base import Dataset, IntArray, Split
from probe.core.errors import InputError
from probe.core.targets import full_width
from probe.core.targets.labels import Labels
from probe.core.targets.number import Number, columns_of
from probe.experiment.choosing import fit
from probe.experiment.reading import ReadRows
from probe.heads.shared.base import AnyHead
from probe.heads.shared.jackknife import LeavesOneOut
from probe.metrics.conformal import SetScores, nonconformity, prediction_sets, rows_needed, thresholds_of
from probe.metrics.evaluate import measure
from probe.metrics.label_sets import answers
from probe.metrics.label_sets import nonconformity as label_nonconformity
from probe.metrics.prediction_intervals import IntervalScores, margins
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import score
from probe.metrics.shared.temperature import fit_temperature, scale
from probe.metrics.shared.thresholds import LEVEL, check_level
from probe.metrics.tadpole import LEVEL as HALF
from probe.metrics.tadpole import HalfIntervals
from probe.protocols.shared.draws import priorities, ranks_in_class, spread
from probe.protocols.shared.groups import grouped_folds, groups_among, held_out_groups
from probe.protocols.shared.strata import seen_strata

FRACTION = 0.2


@dataclass(frozen=True)
class Calibrated:
    """What the held-out rows gave: scores of the test rows, and for the record what they belong to.

    Attributes:
        head: Of the second fit, which gives these scores for the test rows by `predict_proba` and `predict_set`, or by
            `predict_interval`; None of several labels.
        scores: `scaled`, `sets` and `class_conditional_sets`; of numbers `intervals`, at 50 % `half` too; of several
            labels `label_sets`.
        record: Of classes with the metrics of the second fit before scaling, as `unscaled`.
    """

    head: AnyHead | None
    scores: dict[str, Any]
    record: dict[str, Any]


def settings(level: float) -> dict[str, float]:
    """What determines a calibration, for the record."""
    return {"fraction": FRACTION, "level": level}


def hold_out(dataset: Dataset, split: Split, seed: int, level: float | None = LEVEL) -> IntArray:
    """A seeded fifth of the training rows, stratified by class; every class keeps a row to train on.

    Where the dataset names groups, whole groups are held out. Rows that validate stay what they are: the head chooses
    on them, so they cannot calibrate it.

    Args:
        level: Of the sets or intervals; None where there are none, and a single row will do.

    Raises:
        InputError: The level is none, or they would be too few for a conformal set at it.
    """
    if level is not None:
        check_level(level)
    labels = np.asarray(dataset.partitions[split.train.partition].labels)
    seen = seen_strata(dataset, split)
    rows = split.train.indices
    counts = np.bincount(seen[rows])
    n_held = np.minimum(spread(counts, FRACTION), np.maximum(counts - 1, 0))
    priority = priorities(len(labels), dataset.fingerprint, seed, "calibration")[rows]
    held = rows[ranks_in_class(seen[rows], priority) < n_held[seen[rows]]]
    if (groups := groups_among(dataset, split.train)) is not None:
        chance = priorities(int(groups.max()) + 1, dataset.fingerprint, seed, "calibration")
        held = rows[held_out_groups(seen[rows], groups, FRACTION, chance)]
    if level is None and not len(held):
        raise InputError(
            f"calibrate=true holds out a fifth of the training rows, which is none of {len(rows)}: train on more rows, "
            "or set calibrate=false"
        )
    if level is not None and len(held) < (needed := rows_needed(level)):
        raise InputError(
            f"calibrate=true holds out {len(held)} of {len(rows)} training rows, sets at {100 * level:g} % need "
            f"{needed}: train on more rows, or set calibrate=false or a lower conformal_level"
        )
    return held


def calibrate(
    head: AnyHead,
    rows: ReadRows,
    held: NDArray[np.bool_],
    *,
    n_classes: int,
    seed: int,
    level: float = LEVEL,
    groups: IntArray | None = None,
) -> Calibrated:
    """Fits a head without the held-out rows, selection included, and calibrates it with these.

    The sets are those of the head's own probabilities, not of the scaled ones: only what saw none of the held-out rows
    keeps the promise of conformal sets. Test rows of another distribution, such as of another dataset or under label
    noise, are promised nothing. Rows in groups are held out together, and promise what as many groups would.

    Args:
        head: Unfitted.
        rows: Of the run.
        held: Which of the training rows are held out.
        n_classes: Of the dataset.
        seed: Of the bootstrap resamples.
        level: Wanted chance that a set holds the true class.
        groups: Of the training rows, where the dataset names some.
    """
    X, y, test = rows.train.X, rows.train.y, rows.test
    inside = np.flatnonzero(held)
    fitted: Any = fit_without(head, rows, held, y, groups)
    held_logits, logits = (
        full_width(fitted.logits(part), fitted.classes_, n_classes) for part in (rows_of(X, inside), test.X)
    )
    temperature, scored = fit_temperature(held_logits, y[inside]), nonconformity(held_logits, y[inside])
    fitted.keep_calibration(temperature, scored, y[inside])
    scores: dict[str, Any] = {"scaled": score(scale(logits, temperature), test.y)}
    for name, by_class in (("sets", False), ("class_conditional_sets", True)):
        limits = thresholds_of(scored, y[inside], n_classes, level, class_conditional=by_class)
        scores[name] = SetScores(prediction_sets(logits, limits), test.y)
    of_class = [m for m in known().values() if m.reads == "scaled" and "one_class" in m.targets]
    compared = sorted(m.name.removeprefix("scaled_") for m in of_class)
    before = measure({"rows": score(logits, test.y)}, [known()[name] for name in ("top1", *compared)], seed)
    record = {
        "n_held_out": len(inside),
        **settings(level),
        "temperature": temperature,
        "unscaled": {name: vars(interval) for name, interval in before.metrics.items()},
        "chosen": chosen(fitted),
    }
    return Calibrated(fitted, scores, record)


def calibrate_numbers(
    head: AnyHead,
    rows: ReadRows,
    held: NDArray[np.bool_],
    *,
    level: float = LEVEL,
    groups: IntArray | None = None,
    test_groups: IntArray | None = None,
) -> Calibrated:
    """Fits a head of numbers without the held-out rows, selection included, and makes intervals from their errors.

    Args:
        head: Unfitted.
        rows: Of the run.
        held: Which of the training rows are held out.
        level: Wanted chance that an interval holds the true number.
        groups: Of the training rows, where the dataset names some.
        test_groups: Of the test rows.
    """
    fitted: Any = fit_without(head, rows, held, Number().strata(rows.train.y), groups)
    inside = np.flatnonzero(held)
    low, high, unit = fitted.ends(rows_of(rows.train.X, inside), level)
    margin = margins(low, high, unit, columns_of(rows.train.y[inside]), level)
    fitted.keep_margin(margin, level)
    low, high = fitted.predict_interval(rows.test.X)
    true, predicted = columns_of(rows.test.y), columns_of(fitted.predict(rows.test.X))
    scores: dict[str, Any] = {"intervals": IntervalScores(low, high, true, level, test_groups)}
    if level == HALF:
        scores["half"] = HalfIntervals(low, high, true, predicted, test_groups)
    record = {"n_held_out": len(inside), **settings(level), "margins": margin.tolist(), "chosen": chosen(fitted)}
    return Calibrated(fitted, scores, record)


def jackknife(head: Any, rows: ReadRows, level: float, test_groups: IntArray | None) -> dict[str, IntervalScores]:
    """`jackknife` where a fitted head leaves out each training row in closed form: no row is held out for it."""
    if not isinstance(head, LeavesOneOut):
        return {}
    training = [(part.X, columns_of(part.y)) for part in (rows.train, rows.validation) if len(part.y)]
    low, high = head.jackknife_plus(rows.test.X, training, level)
    return {"jackknife": IntervalScores(low, high, columns_of(rows.test.y), level, test_groups)}


def calibrate_labels(
    head: AnyHead,
    rows: ReadRows,
    held: NDArray[np.bool_],
    *,
    level: float = LEVEL,
    groups: IntArray | None = None,
) -> Calibrated:
    """Fits a head of several labels without the held-out rows, selection included, and answers with label sets.

    Args:
        head: Unfitted.
        rows: Of the run.
        held: Which of the training rows are held out.
        level: Wanted chance that an answer holds the true set of labels.
        groups: Of the training rows, where the dataset names some.
    """
    fitted: Any = fit_without(head, rows, held, Labels().strata(rows.train.y), groups)
    inside = np.flatnonzero(held)
    given, asked = (expit(fitted.logits(X).astype(np.float64)) for X in (rows_of(rows.train.X, inside), rows.test.X))
    scored = label_nonconformity(given, rows.train.y[inside])
    record = {"n_held_out": len(inside), **settings(level), "chosen": chosen(fitted)}
    return Calibrated(None, {"label_sets": answers(asked, rows.test.y, scored, level)}, record)


def fit_without(
    head: AnyHead, rows: ReadRows, held: NDArray[np.bool_], strata: IntArray, groups: IntArray | None
) -> AnyHead:
    """The head fitted on the training rows that are not held out, and chosen without them."""
    y, outside = rows.train.y, np.flatnonzero(~held)
    folds = without_lone_rows(rows.folds, strata, outside, groups)
    validation = rows.validation.X, rows.validation.y
    return fit(clone(head), (rows_of(rows.train.X, outside), y[outside]), validation, folds, {})


def without_lone_rows(
    folds: IntArray | None, strata: IntArray, rows: IntArray, groups: IntArray | None
) -> IntArray | None:
    """Folds of some of the training rows, which never hold the last row of a class out."""
    if folds is None:
        return None
    if groups is not None:
        return grouped_folds(strata[rows], groups[rows])
    return np.where(np.bincount(strata[rows])[strata[rows]] > 1, folds[rows], -1)


def chosen(head: AnyHead) -> Any:
    """What a fitted head chose; None where it searched nothing."""
    return (getattr(head, "selection_", None) or {}).get("chosen")
