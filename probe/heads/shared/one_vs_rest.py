"""The linear probe for rows with several labels: one binary logistic regression per label."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from probe.core.arrays import RowStack, RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import refuse_non_finite
from probe.core.magnitudes import check_features
from probe.core.targets.labels import Labels
from probe.heads.linalg.binary import BinaryLosses
from probe.heads.linalg.newton import solve_path, warn_unconverged
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.logistic import LogisticPath, penalties
from probe.heads.shared.several_labels import SeveralLabels
from probe.metrics.multilabel import mean_average_precision


class OneVsRestLinear(SeveralLabels, LogisticPath):
    """Fits every label against its absence, all as one problem with one C: that of best mAP on validation rows.

    Each label has the coefficients that `LinearProbe` gives it alone; the labels share what the rows cost. Ties go to
    the smaller C. One C for all labels has one number to choose from as many validation rows as there are, where a rare
    label has a handful of its own. Without validation rows a tenth is held out, stratified by the rarest label of each
    row. A label that stands at no training row or at all of them gets the log-odds of its counts, each half a row
    larger, for every row. A label that is unknown in some rows is fitted, and judged, on the others.

    The head that `head=linear` stands for on such data, with the same parameters; it has no yaml of its own.

    Attributes:
        classes_: (K,) numbers of the labels.
        Cs_: (n_Cs,) what was searched.
        C_: The chosen C.
        coef_: (K, D).
        intercept_: (K,).
        selection_: What was searched; absent where nothing was.
    """

    reads_unknown: ClassVar[bool] = True

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> OneVsRestLinear:
        """Fits on (X, y) with targets y (N, K), and chooses C on the validation rows."""
        self.check_parameters()
        self._forget()
        X, targets = self._check_rows(X, reset=True), self._targets(y, len(X))
        check_features(X)
        self.classes_ = np.arange(targets.shape[1])
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            return self._search(X, targets, X_val, self._targets(validation[1], len(X_val)), "validation")
        held = hold_out(Labels().strata(targets), self.random_state)
        if len(penalties(self.Cs)) > 1 and held.any():
            inside, outside = np.flatnonzero(held), np.flatnonzero(~held)
            return self._search(
                RowSubset(X, outside), targets[outside], RowSubset(X, inside), targets[inside], HELD_OUT
            )
        Cs = penalties(self.Cs)
        return self._keep(Cs, int(np.abs(np.log(Cs)).argmin()), *self._path(X, targets, Cs))

    def _search(self, X: Any, targets: IntArray, X_val: Any, val_targets: IntArray, on: str) -> OneVsRestLinear:
        Cs = penalties(self.Cs)
        coefs, intercepts = self._path(X, targets, Cs)
        scores = [self._score(X_val, val_targets, *fitted) for fitted in zip(coefs, intercepts, strict=True)]
        best = int(np.lexsort((Cs, -np.array(scores)))[0])
        searched = [{"C": float(C), "score": score} for C, score in zip(Cs, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"C": float(Cs[best])}}
        self._keep(Cs, best, coefs, intercepts)._keep_choice()
        if not self.refit:
            return self
        every = RowSubset(RowStack([X, X_val]), np.arange(len(X) + len(X_val)))
        coefs, intercepts = self._path(every, np.concatenate([targets, val_targets]), Cs[[best]])
        self._keep(Cs, 0, coefs, intercepts)
        self.C_ = float(Cs[best])
        return self

    def _keep(self, Cs: FloatArray, best: int, coefs: FloatArray, intercepts: FloatArray) -> OneVsRestLinear:
        self.Cs_, self.C_ = Cs, float(Cs[best])
        self.coef_, self.intercept_ = coefs[best], intercepts[best]
        return self

    def _path(self, X: Any, targets: IntArray, Cs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coefficients (n_Cs, K, D) and intercepts (n_Cs, K) for all Cs."""
        check_lazy(X)
        order, n_with, n_without = np.argsort(Cs), (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
        useful = np.flatnonzero((n_with > 0) & (n_without > 0))
        if not len(useful):
            raise InputError(f"all {targets.shape[1]} labels stand at no training row or at all: train on more rows")
        features = self._rotated(X)
        losses = BinaryLosses(features, targets[:, useful])
        solutions = solve_path(losses, Cs[order].tolist(), tol=self.tol, max_iter=self.max_iter)
        warn_unconverged(solutions, Cs[order].tolist())
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        coefs = np.zeros((len(order), targets.shape[1], X.shape[1]), dtype=dtype)
        intercepts: FloatArray = np.tile(np.log((n_with + 0.5) / (n_without + 0.5)), (len(order), 1)).astype(dtype)
        for i, solution in zip(order, solutions, strict=True):
            coefs[i, useful], intercepts[i, useful] = features.unrotate(solution.theta)
        return coefs, intercepts

    def _score(self, X: Any, targets: IntArray, coef: FloatArray, intercept: FloatArray) -> float:
        """mAP of validation rows; 0 where they have no label at all."""
        parts = []
        for rows in row_chunks(X):
            chunk = np.asarray(X[rows])
            refuse_non_finite(chunk, rows.start, "the validation rows")
            parts.append(self._linear(chunk, coef, intercept))
        return mean_average_precision(np.concatenate(parts), targets)[0] if (targets == 1).any() else 0.0
