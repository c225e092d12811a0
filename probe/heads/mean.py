"""The mean of the training rows for every row: what any head of numbers has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from probe.heads.shared.constant import ConstantNumbers
from probe.heads.shared.numbers import Numbers


class TrainingMean(ConstantNumbers):
    """Predicts the mean of the training rows, column by column; of all constants that of the smallest squared error.

    Features are not looked at; validation rows are further training rows.

    Attributes:
        value_: (Q,).
    """

    control: ClassVar[str] = "majority"

    def _centre(self, Y: Numbers) -> Numbers:
        return np.asarray(np.mean(Y, axis=0), dtype=np.float64)
