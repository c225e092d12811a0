"""Losses of many linear classifiers on the same labels, each with features of its own, in one product of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from probe.core.base import IntArray
from probe.heads.linalg.eigen import EigenRows


class GridLoss:
    """Sums over rows of -log softmax(W_g x_g + b_g)_y for G problems, with W_g (K, R) and b_g (K,).

    Args:
        features: The rows of each problem, held; R is the largest of their ranks.
        codes: (N,) labels 0..K-1, of all of them.
        n_classes: K.
    """

    def __init__(self, features: Sequence[EigenRows], codes: IntArray, n_classes: int):
        every = slice(0, len(codes))
        width = max(part.rank for part in features)
        # Directions of zeros, along which nothing moves: fewer rows than features span more or fewer of them.
        # Direction by direction, (G, R, N): both products then run along the rows, which processors are fastest at.
        self.columns = torch.stack([pad(part.chunk(every).T, (0, 0, 0, width - part.rank)) for part in features])
        self.eigenvalues = torch.stack([pad(part.eigenvalues, (0, width - part.rank)) for part in features])
        self.codes = torch.as_tensor(codes, device=self.columns.device)[None, None]
        self.counts = torch.bincount(self.codes.flatten(), minlength=n_classes)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def n_rows(self) -> int:
        """N."""
        return self.columns.shape[2]

    def take(self, places: Tensor) -> GridLoss:
        """Some of the problems; all of them without a copy."""
        if len(places) == len(self):
            return self
        part = object.__new__(type(self))
        part.columns, part.eigenvalues = self.columns[places], self.eigenvalues[places]
        part.codes, part.counts = self.codes, self.counts
        return part

    def prior(self) -> Tensor:
        """(G, K, R + 1) zero coefficients, log class frequencies as intercepts."""
        G, R, _ = self.columns.shape
        theta = self.columns.new_zeros(G, len(self.counts), R + 1)
        log_counts = self.counts.double().log()
        theta[..., -1] = (log_counts - log_counts.mean()).to(theta.dtype)
        return theta

    def value_gradient_residuals(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(G,) sums in float64, (G, K, R + 1) gradients, (G, K, N) softmax - onehot; see `MultinomialLoss`."""
        logits = self._scores(theta)
        codes = self.codes.expand(len(logits), 1, -1)
        logits -= logits.gather(1, codes)
        top = logits.amax(1, keepdim=True)
        residuals = logits.sub_(top).exp_()
        own = residuals.gather(1, codes)
        residuals.scatter_(1, codes, 0)
        others = residuals.sum(1, keepdim=True)
        losses = (top + torch.log1p(others + (own - 1))).sum(dim=(1, 2), dtype=torch.float64)
        every = others + own
        residuals /= every
        residuals.scatter_(1, codes, -others / every)
        return losses, self._gather(residuals), residuals

    def hessian_product(self, residuals: Tensor, direction: Tensor) -> Tensor:
        """Of each problem, at the point of the residuals."""
        moves = self._scores(direction)
        codes = self.codes.expand(len(moves), 1, -1)
        moves -= moves.gather(1, codes)
        mean = (residuals * moves).sum(1, keepdim=True)
        weighted = moves.sub_(mean).mul_(residuals)
        return self._gather(weighted.scatter_(1, codes, -(1 + residuals.gather(1, codes)) * mean))

    # Scores lie class by class: rows side by side are what processors add and multiply fastest.
    def _scores(self, theta: Tensor) -> Tensor:
        return torch.bmm(theta[..., :-1], self.columns).add_(theta[..., -1:])

    def _gather(self, weights: Tensor) -> Tensor:
        return torch.cat([torch.bmm(weights, self.columns.transpose(1, 2)), weights.sum(2, keepdim=True)], dim=2)

    def preconditioner(self, residuals: Tensor, C: Tensor) -> Callable[[Tensor], Tensor]:
        """Of each problem what `KroneckerPreconditioner` is of one."""
        codes = self.codes.expand(len(residuals), 1, -1)
        p = residuals.scatter(1, codes, 1 + residuals.gather(1, codes))
        curvature = -(p @ p.transpose(1, 2)).double()
        curvature.diagonal(dim1=1, dim2=2).zero_()
        curvature -= torch.diag_embed(curvature.sum(2))
        shift = curvature.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        values, vectors = torch.linalg.eigh(curvature + shift)
        values = torch.maximum(values, values[:, -1:] * 1e-9 + 1e-30)
        variances = torch.cat([self.eigenvalues, torch.ones_like(self.eigenvalues[:, :1])], dim=1).double()
        scale = C[:, None, None] * values[..., None] * variances[:, None]
        scale[..., :-1] += 1
        scale, vectors = scale.to(residuals.dtype), vectors.to(residuals.dtype)

        def precondition(gradient: Tensor) -> Tensor:
            step = vectors @ ((vectors.transpose(1, 2) @ gradient) / scale)
            return step - step.mean(1, keepdim=True)

        return precondition


class BinaryGridLoss(GridLoss):
    """Sums over rows of log(1 + exp(-s (w_g x_g + b_g))) for G problems of two classes, s = 1 where the code is 1.

    What `GridLoss` is with K = 2, at half the penalty, by half of the numbers.
    """

    def __init__(self, features: Sequence[EigenRows], codes: IntArray):
        super().__init__(features, codes, 2)
        self.codes = 1 - 2 * self.codes.to(self.columns.dtype)

    def prior(self) -> Tensor:
        """(G, 1, R + 1) zero coefficients, log-odds of the second class as intercepts."""
        G, R, _ = self.columns.shape
        theta = self.columns.new_zeros(G, 1, R + 1)
        counts = self.counts.double().log()
        theta[..., -1] = (counts[1] - counts[0]).to(theta.dtype)
        return theta

    def value_gradient_residuals(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As of any grid, with K = 1; see `BinaryLosses`."""
        margins = self._scores(theta).mul_(self.codes)
        losses = softplus(margins).sum(dim=(1, 2), dtype=torch.float64)
        residuals = margins.sigmoid_().mul_(self.codes)
        return losses, self._gather(residuals), residuals

    def hessian_product(self, residuals: Tensor, direction: Tensor) -> Tensor:
        """Of each problem, at the point of the residuals."""
        return self._gather(self._scores(direction).mul_(_curvature(residuals)))

    def preconditioner(self, residuals: Tensor, C: Tensor) -> Callable[[Tensor], Tensor]:
        """Of each problem what that of `BinaryLosses` is of one."""
        variances = torch.cat([self.eigenvalues, torch.ones_like(self.eigenvalues[:, :1])], dim=1)
        curvature = _curvature(residuals).sum(2).clamp(min=1e-30)
        scale = C.to(curvature.dtype)[:, None] * curvature * variances
        scale[:, :-1] += 1
        return lambda gradient: gradient / scale[:, None]


def _curvature(residuals: Tensor) -> Tensor:
    """p (1 - p) of residuals p - 1 or p."""
    return residuals.abs().sub_(residuals.square())
