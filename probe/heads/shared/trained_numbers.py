"""Heads of numbers that are trained by mini-batches: their outputs are means in the unit of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.targets.number import Number
from probe.heads.shared.base import FloatArray
from probe.heads.shared.numbers import NumberHead, Numbers, scaling_of
from probe.heads.shared.objectives import Objective, SquaredError


class TrainedNumbers(NumberHead):
    """Base class beside a solver that trains: down the squared error of columns at mean 0 and variance 1.

    These are of the training rows, so that no unit has a say in the learning rate, and columns of different units count
    alike. Candidates are judged by the same error on the rows to choose on, as other heads of numbers are. The solver
    gives `_outputs(X)`, (N, Q) of a chunk of rows.

    Attributes:
        y_mean_, y_deviation_: (Q,) of the training rows; 1 in place of the deviation of what never varies.
    """

    y_mean_: Numbers
    y_deviation_: Numbers
    if TYPE_CHECKING:

        def _outputs(self, X: Any) -> FloatArray: ...

    @property
    def n_outputs(self) -> int:
        return len(self.y_mean_)

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, Numbers]:
        """Checked rows, and their numbers (N, Q) in the unit that the module learns."""
        rows, Y = super()._check_fit(X, y)
        self.y_mean_, self.y_deviation_ = scaling_of(Y)
        return rows, self._standardised(Y)

    def _validation_codes(self, y: ArrayLike) -> Numbers:
        given = plain_array(y, "y", np.float64)
        if given.size != len(given) * self.n_outputs:
            raise InputError(
                f"y of the validation rows has shape {given.shape}, expected {self.n_outputs} numbers per row: give as "
                "many as training rows have"
            )
        return self._standardised(given.reshape(len(given), -1))

    def _standardised(self, Y: Numbers) -> Numbers:
        found: Numbers = (Y - self.y_mean_) / self.y_deviation_
        return found

    def _objective(self) -> Objective:
        return SquaredError()

    def _strata(self, codes: Numbers) -> IntArray:
        return Number().strata(codes)

    def _learnable(self, codes: Numbers) -> NDArray[np.bool_]:
        """Every row says something."""
        return np.ones(len(codes), dtype=bool)

    def _means(self, X: Any) -> Numbers:
        found: Numbers = self._outputs(X).astype(np.float64) * self.y_deviation_ + self.y_mean_
        return found
