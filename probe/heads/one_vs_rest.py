"""The linear probe for rows with several labels: one binary logistic regression per label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from probe.arrays import RowStack, RowSubset, row_chunks
from probe.base import IntArray
from probe.errors import InputError
from probe.estimator import HELD_OUT, FloatArray, Validation, hold_out, refuse_non_finite
from probe.heads.linear import LinearProbe
from probe.metrics.multilabel import mean_average_precision
from probe.targets import strata


class OneVsRestLinear(LinearProbe):
    """Fits every label against its absence with `LinearProbe`, all with one C: that of best mAP on validation rows.

    Ties go to the smaller C. One C for all labels has one number to choose from as many validation rows as there are,
    where a rare label has a handful of its own. Without validation rows a tenth is held out, stratified by the rarest
    label of each row. A label that stands at no training row or at all of them gets the log-odds of its counts, each
    half a row larger, for every row.

    The head that `head=linear` stands for on such data, with the same parameters; it has no yaml of its own.

    Attributes:
        classes_: (K,) numbers of the labels.
        Cs_: (n_Cs,) what was searched.
        C_: The chosen C.
        coef_: (K, D).
        intercept_: (K,).
        selection_: What was searched; absent where nothing was.
    """

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> OneVsRestLinear:
        """Fits on (X, y) with targets y (N, K), and chooses C on the validation rows."""
        self.check_parameters()
        self._forget()
        X, targets = self._check_rows(X, reset=True), self._check_targets(y, len(X))
        self.classes_ = np.arange(targets.shape[1])
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            return self._search(X, targets, X_val, self._check_targets(validation[1], len(X_val)), "validation")
        held = hold_out(strata(targets), self.random_state)
        if self._n_penalties() > 1 and held.any():
            inside, outside = np.flatnonzero(held), np.flatnonzero(~held)
            return self._search(
                RowSubset(X, outside), targets[outside], RowSubset(X, inside), targets[inside], HELD_OUT
            )
        coefs, intercepts = self._path(X, targets)
        best = int(np.abs(np.log(self.Cs_)).argmin())
        self.C_, self.coef_, self.intercept_ = float(self.Cs_[best]), coefs[best], intercepts[best]
        return self

    def _n_penalties(self) -> int:
        return int(self.Cs) if isinstance(self.Cs, int | np.integer) else len(self.Cs)

    def _check_targets(self, y: ArrayLike, n_rows: int) -> IntArray:
        targets = np.asarray(y)
        if targets.ndim != 2 or len(targets) != n_rows or targets.shape[1] < 2 or not np.isin(targets, (0, 1)).all():
            raise InputError(
                f"y has shape {targets.shape} for {n_rows} rows, expected (rows, labels) of zeros and ones with at "
                "least 2 labels: give one column per label"
            )
        return targets.astype(np.int64)

    def _search(self, X: Any, targets: IntArray, X_val: Any, val_targets: IntArray, on: str) -> OneVsRestLinear:
        coefs, intercepts = self._path(X, targets)
        scores = [self._score(X_val, val_targets, *fitted) for fitted in zip(coefs, intercepts, strict=True)]
        best = int(np.lexsort((self.Cs_, -np.array(scores)))[0])
        self.C_, self.coef_, self.intercept_ = float(self.Cs_[best]), coefs[best], intercepts[best]
        searched = [{"C": float(C), "score": score} for C, score in zip(self.Cs_, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"C": self.C_}}
        if self.refit:
            searched_Cs = self.Cs_
            every = RowSubset(RowStack([X, X_val]), np.arange(len(X) + len(X_val)))
            coefs, intercepts = self._path(every, np.concatenate([targets, val_targets]), [self.C_])
            self.Cs_, self.coef_, self.intercept_ = searched_Cs, coefs[0], intercepts[0]
        return self

    def _path(self, X: Any, targets: IntArray, Cs: Any = None) -> tuple[FloatArray, FloatArray]:
        """Coefficients (n_Cs, K, D) and intercepts (n_Cs, K) for all Cs; sets `Cs_`."""
        binary = LinearProbe(**{**self.get_params(deep=False), "Cs": self.Cs if Cs is None else Cs, "refit": False})
        coefs, intercepts = [], []
        for column in targets.T:
            if 0 < column.sum() < len(column):
                # Any validation row will do: its choice is not used, but with one the path is that of all rows of X.
                binary.fit(X, column, validation=(RowSubset(X, np.array([0])), column[:1]))
                coefs.append(binary.coefs_path_[:, 0])
                intercepts.append(binary.intercepts_path_[:, 0])
            else:
                coefs.append(np.zeros(X.shape[1]))
                intercepts.append(np.log((column.sum() + 0.5) / (len(column) - column.sum() + 0.5)))
        if not hasattr(binary, "Cs_"):
            raise InputError(f"all {targets.shape[1]} labels stand at no training row or at all: train on more rows")
        self.Cs_ = binary.Cs_
        shape = (len(self.Cs_), X.shape[1])
        columns = [np.broadcast_to(coef, shape) for coef in coefs], [np.broadcast_to(b, shape[0]) for b in intercepts]
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        return np.stack(columns[0], axis=1).astype(dtype), np.stack(columns[1], axis=1).astype(dtype)

    def _score(self, X: Any, targets: IntArray, coef: FloatArray, intercept: FloatArray) -> float:
        """mAP of validation rows; 0 where they have no label at all."""
        self.coef_, self.intercept_ = coef, intercept
        parts = []
        for rows in row_chunks(X):
            chunk = np.asarray(X[rows])
            refuse_non_finite(chunk, rows.start, "the validation rows")
            parts.append(self._logits(chunk))
        return mean_average_precision(np.concatenate(parts), targets)[0] if targets.any() else 0.0

    def decision_function(self, X: Any) -> FloatArray:
        """(N, K) log-odds."""
        return self.logits(X)

    def predict_proba(self, X: Any) -> FloatArray:
        """(N, K) probability of each label."""
        return expit(self.logits(X).astype(np.float64))

    def predict(self, X: Any) -> NDArray[Any]:
        """(N, K) zeros and ones: labels whose log-odds are above 0."""
        return (self.logits(X) > 0).astype(np.int64)
