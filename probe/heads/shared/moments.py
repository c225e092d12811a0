"""One-pass class statistics that several heads read, and the base class of the heads that need nothing else."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.core.finite import refuse_non_finite
from probe.core.magnitudes import too_large
from probe.heads.shared.head import Head, Validation
from probe.heads.shared.one_pass import Second, Sweep
from probe.heads.shared.streaming import check_stream

Float64Array = NDArray[np.float64]

# So many multiplications in float64 take about a quarter of a second on one core.
FLOAT64_PRODUCTS = 1e10


class ClassMoments:
    """Counts, sums and second moments per class, in one pass over rows that may be larger than memory.

    Sums are accumulated in float64 and are exact for features whose float64 sums are (float16 features are, for any
    number of rows that fits a disk), hence free of any order. Second moments are taken about the first row ever seen,
    which keeps their digits where a feature's mean is large beside its spread, and which makes those of a constant
    feature exactly zero; those of float16 rows, whose squares are exact in float64, about zero. Products for `full` are
    computed in float64 for small arrays, for more rows in float32 block by block and added up in float64 (features of
    dtype float64 stay in it).

    Attributes:
        counts: (K,) number of rows per class.
        sums: (K, D).
        squares: Second moments about `shift`: (D,) for `diagonal`, (K, D) for `class_diagonal`, (D, D) for `full`.
        low, high: (D,) smallest and largest value per feature, where `extremes` was asked for.
        rounding: Machine epsilon of the least exact products so far; what is smaller in `full` is noise.
    """

    def __init__(
        self,
        n_classes: int,
        width: int,
        *,
        second: Second = "none",
        extremes: bool = False,
        unit_rows: bool = False,
        device: str = "cpu",
    ):
        """Takes what to collect; `unit_rows` scales every row to unit length first (a zero row stays zero)."""
        self.second = second
        self.extremes = extremes
        self.unit_rows = unit_rows
        self.device = resolve_device(device)
        self.counts = np.zeros(n_classes)
        self.sums = np.zeros((n_classes, width))
        shapes = {"none": (0,), "diagonal": (width,), "class_diagonal": (n_classes, width), "full": (width, width)}
        self.squares = np.zeros(shapes[second])
        self.shift = np.zeros(width)
        self.rounding = float(np.finfo(np.float64).eps)
        self.low = np.full(width, np.inf)
        self.high = np.full(width, -np.inf)

    def update(self, X: Any, codes: IntArray) -> Self:
        """Adds rows (N, D) with class codes (N,) in 0..K-1; refuses NaN and infinity, naming the row."""
        if not len(X):
            return self
        if not self.n_rows:
            self.shift = self._point(X)
        narrow = X.dtype != np.float64 and len(X) * X.shape[1] ** 2 > FLOAT64_PRODUCTS
        sweep = Sweep(
            self.shift,
            len(self.counts),
            second=self.second,
            extremes=self.extremes,
            unit_rows=self.unit_rows,
            narrow=narrow,
            device=self.device,
        )
        found = sweep.over(X, codes)
        if not (np.isfinite(found.sums).all() and np.isfinite(found.squares).all()):
            _refuse(X)
        self.counts += np.bincount(codes, minlength=len(self.counts))
        self.sums += found.sums
        self.squares += found.squares
        self.low, self.high = np.minimum(self.low, found.low), np.maximum(self.high, found.high)
        if narrow:
            self.rounding = float(np.finfo(np.float32).eps)
        return self

    def _point(self, X: Any) -> Float64Array:
        """What second moments of X are taken about."""
        if X.dtype == np.float16 and self.second != "full" and not self.unit_rows:
            return np.zeros(X.shape[1])
        return np.array(X[0:1], dtype=np.float64)[0]

    def merge(self, other: ClassMoments) -> Self:
        """Adds the rows that another one has seen; the order of merges does not matter beyond rounding."""
        if self.sums.shape != other.sums.shape or self.second != other.second:
            raise InputError(
                f"moments of {self.sums.shape} with second={self.second} cannot take those of {other.sums.shape} with "
                f"second={other.second}: collect the same statistics over the same classes and features"
            )
        if not other.n_rows:
            return self
        if not self.n_rows:
            self.shift = other.shift
        self.squares += other._squares_about(self.shift)
        self.counts += other.counts
        self.sums += other.sums
        self.rounding = max(self.rounding, other.rounding)
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return self

    def _squares_about(self, point: Float64Array) -> Float64Array:
        """Second moments moved from `shift` to another point."""
        if self.second == "none" or np.array_equal(point, self.shift):
            return self.squares
        step = self.shift - point
        off = self.sums - self.counts[:, None] * self.shift
        if self.second == "class_diagonal":
            return self.squares + 2 * step * off + self.counts[:, None] * step**2
        total = off.sum(axis=0)
        if self.second == "diagonal":
            return self.squares + 2 * step * total + self.n_rows * step**2
        return self.squares + np.outer(step, total) + np.outer(total, step) + self.n_rows * np.outer(step, step)

    @property
    def n_rows(self) -> float:
        """Rows seen so far."""
        return float(self.counts.sum())

    @property
    def means(self) -> Float64Array:
        """(K, D) class means; zeros for a class without rows."""
        return self.sums / np.maximum(self.counts, 1)[:, None]

    @property
    def mean(self) -> Float64Array:
        """(D,) mean of all rows."""
        return self.sums.sum(axis=0) / self.n_rows

    def within(self) -> Float64Array:
        """Sum over rows of the second moments about the row's class mean: (D,), (K, D) or (D, D)."""
        off = np.where(self.counts[:, None] > 0, self.means - self.shift, 0)
        if self.second == "full":
            return self.squares - (off.T * self.counts) @ off
        between = self.counts[:, None] * off**2
        return np.maximum(self.squares - (between if self.second == "class_diagonal" else between.sum(axis=0)), 0)

    def total(self) -> Float64Array:
        """Sum over rows of the second moments about the mean of all rows: (D,) or (D, D)."""
        off = self.mean - self.shift
        if self.second == "full":
            return self.squares - self.n_rows * np.outer(off, off)
        squares = self.squares.sum(axis=0) if self.second == "class_diagonal" else self.squares
        return np.maximum(squares - self.n_rows * off**2, 0)


def eigenbasis(matrix: Float64Array, rounding: float) -> tuple[Float64Array, Float64Array]:
    """Eigenvalues (R,) and vectors (D, R) of a positive semi-definite matrix, without those that are rounding noise."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 10 * rounding * np.sqrt(len(values)) * max(values[-1], 0)
    return values[kept], vectors[:, kept]


def _refuse(X: Any) -> NoReturn:
    """Says why the sums of X are not finite."""
    for rows in row_chunks(X):
        refuse_non_finite(np.asarray(X[rows]), rows.start)
    raise too_large()


class MomentsHead(Head):
    """A head that is a function of `ClassMoments` alone: it streams.

    A subclass gives `_new_moments` and `_solve`. Validation rows given to `fit` are further training rows, as after
    the selection of other heads; a head with something to choose has a `fit` of its own.
    """

    _moments: ClassMoments

    def _new_moments(self) -> ClassMoments:
        """Checks the parameters and returns empty moments."""
        raise NotImplementedError

    def _solve(self, moments: ClassMoments) -> None:
        """Sets the fitted attributes."""
        raise NotImplementedError

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and on the validation rows too, as if they were one array."""
        parts = self._check_parts(X, y, validation)
        moments = self._new_moments()
        for rows, codes in parts:
            moments.update(rows, codes)
        return self._finish(moments)

    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far; equals `fit` on all of them, in any order and any split.

        The first call names all `classes`; a batch may lack some of them.
        """
        begun = hasattr(self, "_moments")
        if not begun and hasattr(self, "classes_"):
            raise InputError(
                f"a {type(self).__name__} that was loaded, or fitted on few wide rows, has no running sums: "
                "give all rows to a new one by partial_fit"
            )
        rows, codes = check_stream(self, X, y, classes, begun=begun)
        moments = self._moments if begun else self._new_moments()
        return self._finish(moments.update(rows, codes))

    def _finish(self, moments: ClassMoments) -> Self:
        self._moments = moments
        self.class_count_ = moments.counts.copy()
        self._solve(moments)
        return self
