"""What heads of numbers share: a scikit-learn regressor that gives a mean for each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.magnitudes import check_features, check_numbers
from probe.core.targets.number import Number, Numbers
from probe.heads.shared.base import AnyHead, Validation
from probe.heads.shared.held_out import HELD_OUT, hold_out

EQUAL = 1e-14
"""What equal numbers, computed in two ways, may differ by, relative to themselves."""
Part = tuple[Any, Numbers]
"""Rows and their numbers (N, Q)."""


@runtime_checkable
class GivesQuantiles(Protocol):
    """A head of numbers that gives more than a mean: what they do not pass with some chances, and intervals of it."""

    levels_: Numbers

    def quantiles(self, X: Any) -> Numbers:
        """(N, Q, L), ascending over the levels."""
        ...

    def interval(self, X: Any, level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of intervals that are to hold the number with this chance."""
        ...


@runtime_checkable
class GivesScales(Protocol):
    """A head of numbers that gives a normal distribution: a scale beside each mean."""

    def scales(self, X: Any) -> Numbers:
        """(N, Q) standard deviations."""
        ...


class NumberHead(RegressorMixin, AnyHead):
    """Base class of the heads that predict numbers; a subclass implements `fit` and `_means(X)`, see `AnyHead`.

    `fit` takes y (N,) or (N, Q), and `predict` gives as many columns.

    Attributes:
        n_columns_: Q, or 0 where y was (N,).
        margin_: (Q,) what a run with `calibrate=true` found that intervals want on both sides, in units of `ends`;
            absent elsewhere.
        level_: The chance with which these are to hold the number.
    """

    fits: ClassVar[tuple[str, ...]] = ("number",)
    n_columns_: int
    margin_: Numbers
    level_: float

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_numbers(self, y: ArrayLike, n_rows: int) -> Numbers:
        """Numbers to predict as (N, Q) float64; sets `n_columns_`."""
        given = plain_array(y, "y")
        if given.dtype.kind == "O" and not _has_text(given):
            given = given.astype(np.float64)
        if given.dtype.kind not in "biuf":
            # scikit-learn's own checks look for its words.
            what = "Complex data not supported: y" if given.dtype.kind == "c" else "y"
            raise InputError(f"{what} is {given.dtype}, expected numbers: choose a head of classes, such as linear")
        if given.ndim not in (1, 2) or len(given) != n_rows:
            raise InputError(
                f"X has {n_rows} rows and y shape {given.shape}: give one number per row, or one per column"
            )
        values = given.astype(np.float64).reshape(n_rows, -1)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise InputError(f"y holds NaN or inf in row {row}: numbers to predict must be finite, drop that row")
        check_numbers(values)
        if n_rows < 2:
            raise InputError("y holds one sample only, expected at least 2: give more rows")
        self.n_columns_ = given.shape[1] if given.ndim > 1 else 0
        return values

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, Numbers]:
        if y is None:
            raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._check_rows(X, reset=True)
        check_features(X)
        return X, self._check_numbers(y, len(X))

    def _check_parts(self, X: Any, y: ArrayLike, validation: Validation | None) -> list[tuple[Any, Numbers]]:
        """Checked rows and numbers (N, Q) of the training rows, then of the validation rows if there are any."""
        parts = [self._check_fit(X, y)]
        if validation is not None:
            rows = self._check_rows(validation[0], reset=False)
            given = plain_array(validation[1], "y", np.float64)
            if len(given) != len(rows) or given.size != len(rows) * parts[0][1].shape[1]:
                raise InputError(
                    f"X has {len(rows)} validation rows and y shape {given.shape}: give as many numbers per row as "
                    "training rows have"
                )
            parts.append((rows, given.reshape(len(rows), -1)))
        return parts

    def _to_choose_on(self, parts: Sequence[Part], n_candidates: int) -> tuple[Part, Part, str] | None:
        """Rows to fit candidates on, rows to judge them by, and what `selection_` calls these.

        The validation rows where there are any, else a tenth of the training rows, spread over the range; None where
        there is nothing to choose, or no row to spare.

        Args:
            parts: Training rows, perhaps validation rows.
            n_candidates: How many there are.
        """
        if len(parts) > 1:
            return parts[0], parts[1], "validation"
        rows, Y = parts[0]
        held = hold_out(Number().strata(Y), getattr(self, "random_state", 0))
        if n_candidates < 2 or not held.any() or (~held).sum() < 2:
            return None
        train, judged = ((RowSubset(rows, np.flatnonzero(marks)), Y[marks]) for marks in (~held, held))
        return train, judged, HELD_OUT

    def _means(self, X: Any) -> Numbers:
        """(N, Q) means of a chunk of checked rows."""
        raise NotImplementedError

    def predict(self, X: Any) -> Numbers:
        """Means, (N,) or (N, Q) as y was."""
        means = self._in_chunks(X, self._means).astype(np.float64, copy=False)
        return means if self.n_columns_ else means[:, 0]

    def ends(self, X: Any, level: float) -> tuple[Numbers, Numbers, Numbers]:
        """(N, Q) ends of the intervals that the head gives without calibration, and the unit in which they are widened.

        A head that gives scales: twice its means, widened by scales. One that gives quantiles: these, widened by 1; any
        other: twice its means, widened by 1.
        """
        if isinstance(self, GivesQuantiles) and not isinstance(self, GivesScales):
            low, high = self.interval(X, level)
            return low, high, np.ones_like(low)
        means = self._in_chunks(X, self._means).astype(np.float64, copy=False)
        return means, means, self.scales(X) if isinstance(self, GivesScales) else np.ones_like(means)

    def predict_interval(self, X: Any) -> tuple[Numbers, Numbers]:
        """(N, Q) ends of intervals that hold the number with the chance `level_`, as the held-out rows have it.

        Raises:
            InputError: The head is not calibrated.
        """
        check_is_fitted(self)
        if not hasattr(self, "margin_"):
            raise InputError(
                f"this {type(self).__name__} is not calibrated: make the run with calibrate=true, and force=true where "
                "it is there without"
            )
        low, high, unit = self.ends(X, self.level_)
        middle = (low + high) / 2  # quantiles that were too wide may leave less than nothing of an interval
        return np.minimum(low - self.margin_ * unit, middle), np.maximum(high + self.margin_ * unit, middle)

    def keep_margin(self, margin: Numbers, level: float) -> None:
        """What a run found on held-out rows."""
        self.margin_, self.level_ = margin, level

    def _forget_calibration(self) -> None:
        for name in ("margin_", "level_"):
            self.__dict__.pop(name, None)


class LinearNumbers(NumberHead):
    """A head whose means are linear in the features.

    Attributes:
        coef_: (Q, D).
        intercept_: (Q,).
    """

    coef_: Numbers
    intercept_: Numbers

    def _means(self, X: Any) -> Numbers:
        return np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_


def scaling_of(values: Numbers) -> tuple[Numbers, Numbers]:
    """Means of columns (N, D) and their deviations; where rows are equal, of which both are rounding, value and 1."""
    low, high = values.min(axis=0), values.max(axis=0)
    varies = high - low > EQUAL * np.maximum(-low, high)
    return np.where(varies, values.mean(axis=0), low), np.where(varies, values.std(axis=0), 1.0)


def check_levels(levels: Sequence[float]) -> None:
    """Refuses what are no chances of quantiles."""
    given = np.asarray(levels, dtype=float)
    if given.ndim != 1 or not len(given) or not ((given > 0) & (given < 1)).all():
        raise InputError(f"levels={levels}, expected a list of numbers between 0 and 1: give one")


def _has_text(values: NDArray[Any]) -> bool:
    """Whether any of them is no number."""
    return not all(isinstance(value, int | float | np.number | None) for value in values.ravel().tolist())
