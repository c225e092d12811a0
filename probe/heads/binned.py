"""A distribution over bins: regression as classification of the bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probe.core.errors import InputError
from probe.heads.shared.binned import BinnedHead

if TYPE_CHECKING:
    from torch import Tensor


class BinnedRegression(BinnedHead):
    """Multinomial regression on B bins of equal width: mean cross-entropy + decay |W|^2; predicts the mean over bins.

    Bins know nothing of their neighbours: any shape of distribution, for many rows a bin. See `BinnedHead` for how it
    is fitted. With a bin for each value it is a classifier of the values. The decay is chosen.

    Source: S. Weiss and N. Indurkhya, "Rule-based machine learning methods for functional prediction", 1995; with
    networks: A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016.

    Args:
        decays: Weights of the squared coefficients to choose from, of features at variance 1.
        n_bins: Bins of equal width, from the smallest to the largest number of the training rows.
        levels: Whose quantiles the metrics read.
        max_iter: Steps of L-BFGS.
        random_state: Seeds the first weights, and the choice of validation rows where none are given.

    Attributes:
        weight_: (Q, B, D).
        bias_: (Q, B).
        edges_: (Q, B + 1) of the bins.
        levels_: (L,) ascending.
    """

    searches: ClassVar[Mapping[str, str]] = {"decay": "decays"}
    unordered: ClassVar[tuple[str, ...]] = ("decays", "levels")

    def __init__(
        self,
        decays: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2),
        n_bins: int = 20,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        max_iter: int = 200,
        random_state: int | None = 0,
    ):
        self.decays = decays
        self.n_bins = n_bins
        self.levels = levels
        self.max_iter = max_iter
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        decays = np.asarray(self.decays, dtype=float)
        if decays.ndim != 1 or not len(decays) or not (decays > 0).all():
            raise InputError(f"decays={self.decays} are no weights of a penalty: give a list of values > 0")

    def _candidates(self) -> tuple[str, list[Any]]:
        return "decay", sorted({float(decay) for decay in self.decays})

    def _width(self, value: Any) -> int:
        return self.n_bins

    def _decay(self, value: Any) -> float:
        return float(value)

    def _log_odds(self, outputs: Tensor) -> Tensor:
        return outputs
