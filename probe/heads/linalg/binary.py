"""Logistic losses of several labels on the same rows, solved as one problem."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from probe.core.base import IntArray
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.losses import LinearLoss, Preconditioner


class BinaryLosses(LinearLoss):
    """Sum over rows and labels of log(1 + exp(-s_k (w_k x + b_k))), s_k = 1 where the row has label k, else -1.

    The labels share nothing but the rows, which are read, rotated and multiplied once for all of them: K products with
    one column each become one with K columns.
    """

    def __init__(self, features: EigenRows, targets: IntArray):
        super().__init__(features, *targets.shape)
        device = features.eigenvalues.device
        self.signs = torch.as_tensor(1 - 2 * targets, device=device).to(torch.int8)
        self.counts = torch.as_tensor(targets.sum(axis=0), device=device)

    def prior(self) -> Tensor:
        """Zero coefficients, log-odds of the labels as intercepts: no label may stand at every row, or at none."""
        theta = torch.zeros(self.n_scores, self.features.rank + 1, dtype=self.features.dtype, device=self.signs.device)
        counts = self.counts.double()
        theta[:, -1] = (counts / (len(self.signs) - counts)).log()
        return theta

    def preconditioner(self, theta: Tensor, C: float) -> Preconditioner:
        """Takes p (1 - p) of a label as independent of the features: diagonal in the eigenbasis of their covariance."""
        curvature = self.features.eigenvalues.new_zeros(self.n_scores)
        for rows in self.features.slices(self.step):
            sizes = self.residuals(rows, theta).abs()
            curvature += (sizes * (1 - sizes)).sum(0)
        scale = (
            C
            * curvature.clamp(min=float(curvature.max()) * 1e-9 + 1e-30)[:, None]
            * torch.cat([self.features.eigenvalues, self.features.eigenvalues.new_ones(1)])
        )
        scale[:, :-1] += 1
        return lambda gradient: gradient / scale

    def _residuals(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        signs = self.signs[rows]
        # Of the side that the row is not on: small for separated rows, and computed without 1 - p.
        logits *= signs
        losses = softplus(logits).sum(1)
        return logits.sigmoid_().mul_(signs), losses

    def _curve(self, rows: slice, residuals: Tensor, moves: Tensor) -> Tensor:
        sizes = residuals.abs()
        return moves.mul_(sizes * (1 - sizes))
