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

    As an autocorrelation, c makes p a density whatever a is (Fejér and Riesz). The probability of a bin is p at its
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
        return log_probabilities(autocorrelation(outputs), self.n_bins)

    def _penalty(self, outputs: Tensor) -> Tensor | float:
        return penalty(autocorrelation(outputs), self.gamma)


def autocorrelation(outputs: Tensor) -> Tensor:
    """c_0 … c_N, (rows, N + 1) complex, of outputs (rows, 2 (N + 1)): real parts of a, then imaginary ones."""
    import torch

    n = outputs.shape[1] // 2
    a = torch.complex(outputs[:, :n], outputs[:, n:])
    return torch.stack([(a[:, k:] * a[:, : n - k].conj()).sum(dim=1) for k in range(n)], dim=1)


def density(c: Tensor, z: Tensor) -> Tensor:
    """p at the places z in [-1, 1], (rows, places)."""
    import torch

    k = torch.arange(1, c.shape[1], dtype=z.dtype)
    waves = torch.exp(1j * np.pi * k[:, None] * z)
    scaled = c[:, 1:] / c[:, :1].real.clamp_min(torch.finfo(z.dtype).tiny)
    found: Tensor = 0.5 + (scaled @ waves.to(scaled.dtype)).real
    return found


def log_probabilities(c: Tensor, n_bins: int) -> Tensor:
    """log(probability + 1e-5) of bins of equal width, (rows, bins)."""
    import torch

    centres = (2 * torch.arange(n_bins, dtype=c.real.dtype) + 1) / n_bins - 1
    values = density(c, centres)
    return torch.log(values / values.sum(dim=1, keepdim=True) + ADDED)


def penalty(c: Tensor, gamma: float) -> Tensor:
    """gamma 4 pi^2 times the mean over rows of sum_k k^2 |c_k|^2, of coefficients that are not normalised."""
    import torch

    k = torch.arange(c.shape[1], dtype=c.real.dtype)
    found: Tensor = gamma * 4 * np.pi**2 * (k**2 * c.abs() ** 2).sum(dim=1).mean()
    return found
