"""What logistic regressions over a path of penalties share: parameters, the rotated rows, linear logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone

from probe.core.arrays import places_in
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.core.finite import check_finite
from probe.core.magnitudes import too_large
from probe.heads.linalg.eigen import SCALINGS, EigenRows, hold_bytes, scale_rows
from probe.heads.shared.head import FloatArray, Head


class LogisticPath(Head):
    """A linear head whose penalty is chosen among `Cs`, all of them solved as one problem in one rotation of the rows.

    Subclasses say what is solved and how one C is chosen; they set `coef_` (R, D) and `intercept_` (R,).
    """

    searches: ClassVar[Mapping[str, str]] = {"C": "Cs"}
    unordered: ClassVar[tuple[str, ...]] = ("Cs",)
    coef_: FloatArray
    intercept_: FloatArray
    _shared: tuple[Any, EigenRows] | None = None
    """Rows that several problems are made of, and the same rotated once for all."""

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        scaling: str = "none",
        refit: bool = True,
        tol: float = 1e-6,
        max_iter: int = 100,
        random_state: int | None = 0,
        device: str = "auto",
    ):
        self.Cs = Cs
        self.scaling = scaling
        self.refit = refit
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def fit_splits(
        self, X: Any, y: ArrayLike, splits: Iterable[tuple[IntArray, IntArray | None]], **extras: Any
    ) -> Iterator[Self]:
        """As of any head; rows that can be held twice in memory are read and rotated once for all splits.

        Each clone is what it would be alone, to the tolerance of the solver. With `scaling=standard` each subset has a
        scale, and so an eigenbasis, of its own; so has each where rows are fewer than features.
        """
        if self.scaling != "standard" and getattr(X, "ndim", 0) == 2 and X.dtype.kind == "f":
            check_finite(X)
            n, width = X.shape
            if n >= width and 2 * n * width * max(4, X.dtype.itemsize) <= hold_bytes(resolve_device(self.device)):
                self._shared = X, self._rotated(X)
        try:
            for head in super().fit_splits(X, y, splits, **extras):
                head._shared = None
                yield head
        finally:
            self._shared = None

    def _for_split(self) -> Self:
        head = clone(self)
        head._shared = self._shared
        return head

    def check_parameters(self) -> None:
        wrong = []
        if self.scaling not in SCALINGS:
            wrong.append(f"scaling is {self.scaling!r}, expected one of {', '.join(SCALINGS)}")
        if self.tol is not None and not self.tol > 0:
            wrong.append(f"tol is {self.tol!r}, expected a positive number")
        if self.max_iter is not None and not self.max_iter >= 1:
            wrong.append(f"max_iter is {self.max_iter!r}, expected at least 1")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")
        penalties(self.Cs)

    def _forget(self) -> None:
        for name in ("scores_", "selection_"):
            if hasattr(self, name):
                delattr(self, name)

    def _rotated(self, X: Any) -> EigenRows:
        if self._shared is not None:
            every, features = self._shared
            places = places_in(X, every)
            # Fewer rows than directions are a smaller problem in a basis of their own.
            if places is not None and len(places) >= features.rank:
                return features.subset(places)
        features = EigenRows(X, scaling=self.scaling, device=resolve_device(self.device))
        # The curvature along the longest direction, under the weakest penalty.
        longest = float(features.eigenvalues[:1].sum()) * features.n_rows * float(penalties(self.Cs).max())
        if not longest < torch.finfo(features.dtype).max:
            raise too_large()
        return features

    def _linear(self, chunk: FloatArray, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        """(n, K) logits; two classes get 0 and the score."""
        scores = scale_rows(chunk.astype(coef.dtype, copy=False), self.scaling) @ coef.T + intercept
        return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores

    def _logits(self, X: Any) -> FloatArray:
        return self._linear(np.asarray(X), self.coef_, self.intercept_)


def penalties(Cs: int | Sequence[float]) -> FloatArray:
    """The Cs as `LogisticRegressionCV` reads them."""
    if isinstance(Cs, int | np.integer):
        values = np.logspace(-4, 4, int(Cs))
    else:
        values = np.array(Cs, dtype=np.float64).reshape(-1)
    if not len(values) or not (np.isfinite(values) & (values > 0)).all() or len(np.unique(values)) < len(values):
        raise InputError(f"Cs is {Cs!r}, expected a count or distinct positive numbers: change the head's Cs")
    return values
