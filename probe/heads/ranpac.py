"""RanPAC: ridge on random non-linear projections of the features, from sums that rows are added to as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.arrays import RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import refuse_non_finite
from probe.core.terminal import passing
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.normal_equations import NormalEquations
from probe.heads.shared.streaming import check_stream

BLOCK_BYTES = 2**27
"""Of projected rows in float64 at once."""
ALPHAS = tuple(float(f"1e{k}") for k in range(-8, 9))


class RandomProjection(Head):
    """W minimises sum_i |y_i - W h_i|^2 + alpha |W|^2 with h = max(0, x P), y the one-hot class and P ~ N(0, 1), fixed.

    Neither intercept nor scale. G = H'H and Q = H'Y are sums over rows in float64, and so is H of float64 rows: for a
    given penalty, streaming gives what fitting at once gives. The penalty is that of the smallest squared error, of
    equal ones the first, on the validation rows when given, then both are fitted; without, on a seeded tenth of each
    class, in a stream of each batch, where as in the source the sums of this batch alone choose. A penalty at which
    G + alpha I cannot be factorised is not chosen; where none can, the largest is, without the directions that are
    rounding. A class without rows is never predicted.

    Source: McDonnell, Gong, Parvaneh, Abbasnejad, van den Hengel, "RanPAC: Random Projections and Pre-trained Models
    for Continual Learning", 2023, arXiv 2307.02251. Departures: a stratified tenth in place of the last fifth of the
    rows, which need not hold all classes, and float64.

    Args:
        n_projected: Width of the projection; 0: the features themselves.
        alphas: Penalties to choose from.
        random_state: Of the projection and of the rows that are held out.

    Attributes:
        projection_: (D, n_projected) float32; absent without one.
        alpha_: The chosen penalty.
        coef_, intercept_: (K, n_projected) or (K, D), and (K,) zeros, -inf for a class without rows.
        class_count_: (K,) rows per class.
    """

    log_probabilities = False
    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas",)
    coef_: NDArray[np.float64]
    projection_: NDArray[np.float32]
    _sums: NormalEquations

    def __init__(self, n_projected: int = 10_000, alphas: Sequence[float] = ALPHAS, random_state: int | None = 0):
        self.n_projected = n_projected
        self.alphas = alphas
        self.random_state = random_state

    @property
    def chooses_in_stream(self) -> bool:
        return len(self._penalties()) > 1

    def check_parameters(self) -> None:
        if isinstance(self.n_projected, bool) or not isinstance(self.n_projected, int) or self.n_projected < 0:
            raise InputError(f"n_projected is {self.n_projected!r}, expected a whole number from 0 on: change it")
        self._penalties()

    def _penalties(self) -> NDArray[np.float64]:
        values = np.asarray(self.alphas, dtype=np.float64).reshape(-1)
        if not len(values) or not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"alphas is {self.alphas!r}, expected positive numbers: change the head's alphas")
        return values

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and chooses the penalty."""
        parts = self._check_parts(X, y, validation)
        self._begin()
        sums, (rows, codes) = self._sums, parts[0]
        if validation is None:
            return self._finish(self._collect(sums, rows, codes, HELD_OUT))
        self._add(sums, rows, codes)
        self._finish(sums, self._choose(sums, *parts[1], "validation"))
        self._keep_choice()
        return self._finish(self._add(sums, *parts[1]))

    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far. The first call names all `classes`; a batch may lack some of them."""
        begun = hasattr(self, "_sums")
        if not begun and hasattr(self, "classes_"):
            raise InputError(f"a loaded {type(self).__name__} has no running sums: fit it before partial_fit")
        rows, codes = check_stream(self, X, y, classes, begun=begun)
        if not begun:
            self._begin()
            return self._finish(self._collect(self._sums, rows, codes, f"{HELD_OUT} of each batch"))
        if len(self._penalties()) == 1:
            return self._finish(self._add(self._sums, rows, codes))
        own = self._sums.empty()
        self._collect(own, rows, codes, f"{HELD_OUT} of each batch")
        return self._finish(self._sums.add(own))

    def _begin(self) -> None:
        self.check_parameters()
        if self.n_projected:
            random = np.random.default_rng(self.random_state)
            self.projection_ = random.standard_normal((self.n_features_in_, self.n_projected), dtype=np.float32)
        self._sums = NormalEquations(self.n_projected or self.n_features_in_, len(self.classes_))

    def _collect(self, sums: NormalEquations, X: Any, codes: IntArray, on: str) -> NormalEquations:
        """Fills empty sums with rows, some of which choose before they are added."""
        held = hold_out(codes, self.random_state) if len(self._penalties()) > 1 else np.zeros(len(codes), dtype=bool)
        inside, spared = np.flatnonzero(~held), np.flatnonzero(held)
        self._add(sums, RowSubset(X, inside) if len(spared) else X, codes[inside])
        if len(spared):
            self._choose(sums, RowSubset(X, spared), codes[spared], on)
            return self._add(sums, RowSubset(X, spared), codes[spared])
        self.alpha_ = float(min(self._penalties(), key=lambda alpha: abs(np.log(alpha))))
        return sums

    def _add(self, sums: NormalEquations, X: Any, codes: IntArray) -> NormalEquations:
        for rows, projected in self._projected(X):
            sums.update(projected, codes[rows])
        return sums

    def _projected(self, X: Any) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """(n, n_projected) for some rows after the others; refuses NaN and infinity, naming the row.

        With a projection what is given is written over by the next.
        """
        width, kind = max(self.n_projected, X.shape[1]), np.float64 if X.dtype == np.float64 else np.float32
        products = projected = None  # of the first and largest block, made once: new memory costs more than its use
        for rows in passing(row_chunks(X, BLOCK_BYTES * X.shape[1] // (2 * width)), len(X)):
            block: FloatArray = np.asarray(X[rows], dtype=kind)
            refuse_non_finite(block, rows.start)
            if not self.n_projected:
                yield rows, block.astype(np.float64, copy=False)
                continue
            if products is None or projected is None:
                products = np.empty((len(block), self.n_projected), dtype=kind)
                projected = np.empty(products.shape)
            inside = np.matmul(block, self.projection_, out=products[: len(block)])
            yield rows, np.maximum(inside, 0, out=projected[: len(block)])

    def _choose(self, sums: NormalEquations, X: Any, codes: IntArray, on: str) -> NDArray[np.float64]:
        """Sets `alpha_` and what tells of its choice, from rows that the sums do not hold; gives its solution."""
        alphas, K = self._penalties(), len(self.classes_)
        found = {float(a): W for a, W in zip(alphas, sums.solutions(alphas), strict=True) if W is not None}
        found = found or {float(alphas.max()): sums.least_norm(alphas.max())}
        kept, every = list(found), np.concatenate(list(found.values()), axis=1)
        errors = np.zeros(len(kept))
        for rows, projected in self._projected(X):
            off = (projected @ every).reshape(len(projected), len(kept), K)
            off[np.arange(len(off)), :, codes[rows]] -= 1
            errors += (off**2).sum(axis=(0, 2))
        errors /= len(X) * K
        self.alpha_ = kept[int(errors.argmin())]
        searched = [{"alpha": alpha, "score": -float(error)} for alpha, error in zip(kept, errors, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"alpha": self.alpha_}}
        return found[self.alpha_]

    def _finish(self, sums: NormalEquations, solution: NDArray[np.float64] | None = None) -> Self:
        if solution is None:
            (solution,) = sums.solutions(np.array([self.alpha_]))
        solution = sums.least_norm(self.alpha_) if solution is None else solution
        self.coef_, self.class_count_ = np.ascontiguousarray(solution.T), sums.counts.copy()
        self.intercept_ = np.where(sums.counts > 0, 0.0, -np.inf)
        return self

    def _logits(self, X: Any) -> FloatArray:
        return np.concatenate([H @ self.coef_.T for _, H in self._projected(X)]) + self.intercept_
