"""Losses of several labels on the same rows, solved as one problem: logistic ones, and squared hinges."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probe.core.base import IntArray
from probe.heads.linalg.active import ActiveCurvature
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.losses import LinearLoss, Preconditioner

HARD = 20
"""Products with one Hessian from which on its exact inverse is worth its cost."""
LINE_STEPS = 8
"""Of Newton's method along a line; on a piecewise parabola a few end at its lowest point."""


class BinaryLosses(LinearLoss):
    """Sum over rows and labels of log(1 + exp(-s_k (w_k x + b_k))), s_k = 1 where the row has label k, else -1.

    A target of -1 is a label that is unknown: s_k = 0, a constant without a slope.

    The labels share nothing but the rows, which are read, rotated and multiplied once for all of them: K products with
    one column each become one with K columns.
    """

    def __init__(self, features: EigenRows, targets: IntArray):
        super().__init__(features, *targets.shape)
        device = features.eigenvalues.device
        self.signs = torch.as_tensor((targets == 0).astype(np.int8) - (targets == 1).astype(np.int8), device=device)
        self.counts = torch.as_tensor((targets == 1).sum(axis=0), device=device)
        self.n_known = torch.as_tensor((targets >= 0).sum(axis=0), device=device)

    def prior(self) -> Tensor:
        """Zero coefficients, log-odds of the labels as intercepts: no label may stand at every row, or at none."""
        theta = torch.zeros(self.n_scores, self.features.rank + 1, dtype=self.features.dtype, device=self.signs.device)
        counts = self.counts.double()
        theta[:, -1] = (counts / (self.n_known.double() - counts)).log()
        return theta

    def preconditioner(self, theta: Tensor, C: float) -> Preconditioner:
        """Takes curvatures as independent of the features: diagonal in the eigenbasis of their covariance."""
        curvature = self.features.eigenvalues.new_zeros(self.n_scores)
        for rows in self.features.slices(self.step):
            curvature += self._curvatures(self.residuals(rows, theta)).sum(0)
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
        return moves.mul_(self._curvatures(residuals))

    def _curvatures(self, residuals: Tensor) -> Tensor:
        """(n, K) second derivatives of the loss by the logits."""
        sizes = residuals.abs()
        return sizes * (1 - sizes)


class SquaredHinges(BinaryLosses):
    """Sum over rows and labels of max(0, 1 - s_k (w_k x + b_k))^2."""

    smooth: ClassVar[bool] = False

    def __init__(self, features: EigenRows, targets: IntArray):
        super().__init__(features, targets)
        self._n_products = 0
        self._curvature: ActiveCurvature | None = None

    def prior(self) -> Tensor:
        """Zero coefficients, and as intercepts the excess of rows with the label, as a share of all."""
        theta = torch.zeros(self.n_scores, self.features.rank + 1, dtype=self.features.dtype, device=self.signs.device)
        theta[:, -1] = 2 * self.counts.double() / self.n_known.double() - 1
        return theta

    def hessian_product(self, theta: Tensor, direction: Tensor) -> Tensor:
        if self._curvature is not None:
            return self._curvature.product(direction)
        self._n_products += 1
        return super().hessian_product(theta, direction)

    def preconditioner(self, theta: Tensor, C: float) -> Preconditioner:
        """Once systems were hard, the inverse of the curvature itself, which then takes part in products too.

        Where few rows bend, they are not spread as all rows are, the less the larger C.
        """
        hard, self._n_products = self._n_products > HARD, 0
        if self._curvature is None and hard and ActiveCurvature.fits(self.features, self.n_scores):
            self._curvature = ActiveCurvature(self.features, self.n_rows, self.n_scores)
        exact = None
        if self._curvature is not None and self.kept is not None:
            self._curvature.update(self.kept != 0)
            exact = self._curvature.preconditioner(C)
        if exact is None:
            self._curvature = None
        return super().preconditioner(theta, C) if exact is None else exact

    def _residuals(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        signs = self.signs[rows]
        short = logits.mul_(signs).add_(1).clamp_(min=0)
        losses = short.square().sum(1)
        return short.mul_(signs).mul_(2), losses

    def stretched(self, theta: Tensor, direction: Tensor, C: float) -> Tensor:
        """Each label's step as long as is best for it: along a line its objective is a piecewise parabola.

        One length for all would be that of the label whose rows change sides most.
        """
        if self.logits is None:
            return direction
        toward, coef = direction[:, :-1].double(), theta[:, :-1].double()
        first, second = (coef * toward).sum(1), toward.square().sum(1)
        short = 1 + self.signs * self.logits.double()
        moves = torch.empty_like(short)
        V, c = self.features.enter(direction[:, :-1]), direction[:, -1]
        for rows in self.features.slices(self.step):
            moves[rows] = torch.addmm(c, self.features.chunk(rows).to(V.dtype), V.T)
        moves *= self.signs
        steps, low = first.new_ones(len(first)), first.new_zeros(len(first))
        high = torch.full_like(steps, torch.inf)
        for _ in range(LINE_STEPS):
            left = torch.addcmul(short, moves, steps).clamp_(min=0)
            slope = first + steps * second + 2 * C * (left * moves).sum(0)
            curve = second + 2 * C * (moves.square() * (left > 0)).sum(0)
            low, high = torch.where(slope < 0, steps, low), torch.where(slope < 0, high, steps)
            found = steps - slope / curve.clamp(min=torch.finfo(curve.dtype).tiny)
            between = torch.where(high.isinf(), 2 * steps, (low + high) / 2)
            steps = torch.where((found >= low) & (found <= high), found, between)
        return direction * steps[:, None].to(direction.dtype)

    def _curvatures(self, residuals: Tensor) -> Tensor:
        return 2 * (residuals != 0).to(residuals.dtype)
