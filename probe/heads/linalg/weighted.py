"""Cross-entropy of a linear classifier in which rows of each class have a weight."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.base import IntArray
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.shared.base import FloatArray


class WeightedMultinomialLoss(MultinomialLoss):
    """Sum over rows of -w_y log softmax(W x + b)_y.

    Args:
        features: The rows.
        codes: (N,) class codes.
        weights: (K,) w, above 0.
    """

    def __init__(self, features: EigenRows, codes: IntArray, weights: FloatArray):
        super().__init__(features, codes, len(weights))
        self.weights = torch.as_tensor(weights, dtype=torch.float64, device=self.codes.device)
        self.counts = self.counts * self.weights

    def _of_rows(self, rows: slice, like: Tensor) -> Tensor:
        """(n, 1) weights of some rows."""
        return self.weights.to(like.dtype)[self.codes[rows]]

    def _residuals(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        residuals, losses = super()._residuals(rows, logits)
        weights = self._of_rows(rows, residuals)
        return residuals.mul_(weights), losses * weights

    def _curve(self, rows: slice, residuals: Tensor, moves: Tensor) -> Tensor:
        weights = self._of_rows(rows, moves)
        return super()._curve(rows, residuals / weights, moves) * weights

    def class_curvature(self, theta: Tensor) -> Tensor:
        """(K, K) sum over rows of w (diag(p) - p p^T) at theta, the last point of `value_and_gradient`."""
        curvature = self.features.eigenvalues.new_zeros(self.n_scores, self.n_scores)
        for rows in self.features.slices(self.step):
            codes, residuals = self.codes[rows], self.residuals(rows, theta)
            weights = self._of_rows(rows, residuals)
            probabilities = residuals / weights
            probabilities = probabilities.scatter(1, codes, 1 + probabilities.gather(1, codes)) * weights.sqrt()
            curvature -= torch.mm(probabilities.T, probabilities)
        curvature = curvature.double().fill_diagonal_(0)
        return curvature - torch.diag(curvature.sum(1))

    def _own_curvature(self, rows: slice, distance: Tensor) -> Tensor:
        return distance * (1 - distance / self._of_rows(rows, distance))
