"""Heads that say the same of every row: what any other head has to beat."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.heads.shared.base import Validation
from probe.heads.shared.numbers import NumberHead, Numbers


class ConstantNumbers(NumberHead):
    """A head that predicts one number per column, which a subclass finds among those of the training rows.

    Attributes:
        value_: (Q,).
    """

    value_: Numbers

    def _centre(self, Y: Numbers) -> Numbers:
        """(Q,) of numbers (N, Q)."""
        raise NotImplementedError

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Looks at y (N,) or (N, Q), and at the validation rows too."""
        parts = self._check_parts(X, y, validation)
        self.value_ = self._centre(np.concatenate([numbers for _, numbers in parts]))
        return self

    def _means(self, X: Any) -> Numbers:
        return np.tile(self.value_, (len(X), 1))
