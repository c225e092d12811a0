"""Any regressor of scikit-learn, or several steps of it, as a head of numbers."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils import get_tags

from probe.heads.shared.base import Validation
from probe.heads.shared.numbers import NumberHead, Numbers
from probe.heads.shared.sklearn_fit import SklearnFit, in_memory


class SklearnNumbers(SklearnFit, NumberHead):
    """Fits a regressor named by its import path; a list of paths is a pipeline, the regressor last.

    Searches nothing: validation rows are further training rows. Rows are held in memory. Of several columns of numbers,
    an estimator that takes one is fitted to each.

    The head that `head=sklearn` stands for on numbers, with the same parameters; it has no yaml of its own.
    """

    wanted: ClassVar[str] = "regressor"

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and on the validation rows too, as if they were one array."""
        estimator = self._build()
        parts = self._check_parts(X, y, validation)
        rows, Y = np.concatenate([in_memory(part) for part, _ in parts]), np.concatenate([Y for _, Y in parts])
        if Y.shape[1] > 1 and not get_tags(estimator).target_tags.multi_output:
            estimator = MultiOutputRegressor(estimator)
        self._keep(estimator.fit(rows, Y if Y.shape[1] > 1 else Y[:, 0]))
        return self

    def _means(self, X: Any) -> Numbers:
        found = np.asarray(self._estimator().predict(in_memory(X)), dtype=np.float64)
        return found.reshape(len(X), -1)
