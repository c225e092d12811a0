"""A smooth distribution over bins: a linear layer gives the Fourier coefficients of its density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probe.core.errors import InputError
from probe.heads.shared.binned import BinnedHead

if TYPE_CHECKING:
    from torch import Tensor

ADDED = 1e-5
"""To each probability, so that its logarithm is finite."""


class FourierHead(BinnedHead):
    """p(z) = 1/2 + Re sum_{k=1}^N (c_k / c_0) exp(i k pi z) on [-1, 1], c_k = sum_l a_{l+k} conj(a_l), a linear in f.

    As an autocorrelation, c makes p = |sum_l a_l exp(i l pi z)|^2 / (2 c_0) a density whatever a is (Fejér and Riesz).
    The probability of a bin is p at its
    centre, over their sum; the fewer the frequencies N, the smoother. Minimises the mean cross-entropy of the bins plus
    gamma 4 pi^2 mean sum_k k^2 |c_k|^2; see `BinnedHead` for how. N is chosen.

    Source: N. Gillman et al., "Fourier Head: Helping Large Language Models Learn Complex Probability Distributions",
    2025, arXiv 2410.22269, and their code for the constants. Departures: the layer is fitted alone, by L-BFGS; the
    first and last bin stand for all beyond them. As there, both ends of the range meet: a distribution at one end leaks
    into the other.

    Args:
        n_frequencies: Numbers of frequencies N to choose from, each below half the bins.
        n_bins: Bins of equal width.
        gamma: Weight of the penalty on high frequencies.
        levels: Whose quantiles the metrics read.
        max_iter: Steps of L-BFGS.
        random_state: Seeds the first weights, and the choice of validation rows where none are given.

    Attributes:
        weight_: (Q, 2 (N + 1), D), the real parts of a before the imaginary ones.
        bias_: (Q, 2 (N + 1)).
        edges_: (Q, B + 1) of the bins.
        levels_: (L,) ascending.
    """

    searches: ClassVar[Mapping[str, str]] = {"n_frequencies": "n_frequencies"}
    unordered: ClassVar[tuple[str, ...]] = ("levels", "n_frequencies")

    def __init__(
        self,
        n_frequencies: Sequence[int] = (2, 4, 8),
        n_bins: int = 32,
        gamma: float = 1e-6,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        max_iter: int = 100,
        random_state: int | None = 0,
    ):
        self.n_frequencies = n_frequencies
        self.n_bins = n_bins
        self.gamma = gamma
        self.levels = levels
        self.max_iter = max_iter
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        if not len(self.n_frequencies) or not all(1 <= n < self.n_bins / 2 for n in self.n_frequencies):
            raise InputError(
                f"n_frequencies={self.n_frequencies} with {self.n_bins} bins, expected numbers from 1 on and below "
                "half the bins, which alias otherwise: give fewer frequencies or more bins"
            )

    def _candidates(self) -> tuple[str, list[Any]]:
        return "n_frequencies", sorted(set(self.n_frequencies))

    def _width(self, value: Any) -> int:
        return 2 * (int(value) + 1)

    def _log_odds(self, outputs: Tensor) -> Tensor:
        return log_probabilities(outputs, self.n_bins)

    def _mean_loss(self, outputs: Tensor, bins: Tensor) -> Tensor:
        # Its values at 2 N + 1 places are all that there is to |A|^2, whose mean is c_0. The probabilities sum to 1
        # before 1e-5 is added to each: of all bins but a row's own no logarithm is needed.
        values = power(outputs, centres(outputs.shape[1] - 1, outputs))
        to_bins = _interpolation(outputs, centres(self.n_bins, outputs))
        own = (values * to_bins[bins]).sum(dim=1) / (self.n_bins * values.mean(dim=1))
        found = float(np.log1p(self.n_bins * ADDED)) - (own + ADDED).log().mean()
        return found + penalty(values, self.gamma) if self.gamma else found


def power(outputs: Tensor, z: Tensor) -> Tensor:
    """|A(z)|^2 = 2 c_0 p(z) at the places z in [-1, 1], A(z) = sum_l a_l exp(i l pi z): (rows, places).

    Nowhere 0 to the bit, so that a row whose outputs are has the uniform density.

    Args:
        outputs: (rows, 2 (N + 1)), the real parts of a before the imaginary ones.
        z: (places,).
    """
    import torch

    angles = np.pi * torch.arange(outputs.shape[1] // 2, dtype=z.dtype)[:, None] * z
    cosine, sine = angles.cos(), angles.sin()
    parts = outputs @ torch.cat([torch.cat([cosine, -sine]), torch.cat([sine, cosine])], dim=1)
    return parts.square().unflatten(1, (2, -1)).sum(dim=1) + torch.finfo(z.dtype).tiny


def centres(n_bins: int, like: Tensor) -> Tensor:
    """(bins,) of bins of equal width."""
    import torch

    return (2 * torch.arange(n_bins, dtype=like.dtype) + 1) / n_bins - 1


def log_probabilities(outputs: Tensor, n_bins: int) -> Tensor:
    """log(probability + 1e-5) of bins of equal width, (rows, bins)."""
    values = power(outputs, centres(n_bins, outputs))
    return (values / values.sum(dim=1, keepdim=True) + ADDED).log()


def penalty(values: Tensor, gamma: float) -> Tensor:
    """gamma 4 pi^2 times the mean over rows of sum_k k^2 |c_k|^2, of coefficients that are not normalised.

    By Parseval, that of the integral of the squared slope of |A|^2, whose mean over 2 N + 1 places is exact.

    Args:
        values: (rows, 2 N + 1) of |A|^2 at the centres of as many bins.
        gamma: Its weight.
    """
    import torch

    places = values.shape[1]
    z = centres(places, values)
    k = torch.arange(1, places // 2 + 1, dtype=z.dtype)[:, None, None]
    slopes = -2 / places * (k * np.pi * (k * np.pi * (z[:, None] - z)).sin()).sum(dim=0)
    return gamma * 2 / places * (values @ slopes.T).square().sum(dim=1).mean()


def _interpolation(outputs: Tensor, z: Tensor) -> Tensor:
    """(places, 2 N + 1) what gives |A|^2 at the places z from its values at the centres of 2 N + 1 bins."""
    import torch

    known = centres(outputs.shape[1] - 1, z)
    k = torch.arange(1, len(known) // 2 + 1, dtype=z.dtype)[:, None, None]
    return (1 + 2 * (k * np.pi * (z[:, None] - known)).cos().sum(dim=0)) / len(known)
