"""Cross-entropy of a linear classifier over many rows, and a preconditioner for its Hessian."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.base import IntArray
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.likely import SAMPLED_ENTRIES, SAMPLES, LikelyClasses, LikelyPreconditioner, Pairs, least_kept
from probe.heads.linalg.losses import LinearLoss, Preconditioner

MANY_CLASSES = 2000
"""Above so many, (K, K) curvature takes more memory and time than it saves: its diagonal preconditions alone."""


class MultinomialLoss(LinearLoss):
    """Sum over rows of -log softmax(W x + b)_y, with W (K, R) and b (K,).

    A row whose probability is nearly all on its label has a residual near 0 that 1 - p would round away: the label's
    own entry is always computed from the others, so that separated rows keep their digits in float32.
    """

    def __init__(self, features: EigenRows, codes: IntArray, n_classes: int):
        super().__init__(features, len(codes), n_classes)
        self.codes = torch.as_tensor(codes, dtype=torch.int64, device=features.eigenvalues.device)[:, None]
        self.counts = torch.bincount(self.codes[:, 0], minlength=n_classes)

    def prior(self) -> Tensor:
        """Zero coefficients, log class frequencies as intercepts."""
        theta = torch.zeros(self.n_scores, self.features.rank + 1, dtype=self.features.dtype, device=self.codes.device)
        log_counts = self.counts.double().log()
        theta[:, -1] = log_counts - log_counts.mean()
        return theta

    def preconditioner(self, theta: Tensor, C: float) -> Preconditioner:
        if self.n_scores > MANY_CLASSES:
            curvature = self.own_curvature(theta)
            plain = DiagonalPreconditioner(curvature, self.features.eigenvalues, C)
            pairs = self.likely(theta)
            if pairs is None:
                return plain
            return LikelyPreconditioner(LikelyClasses(self.features, pairs, curvature), plain, C)
        return KroneckerPreconditioner(self.class_curvature(theta), self.features.eigenvalues, C)

    def _residuals(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        """softmax - onehot, (n, K), and the cross-entropy of each row; takes the logits' place."""
        codes = self.codes[rows]
        logits -= logits.gather(1, codes)
        top = logits.amax(1, keepdim=True)
        residuals = logits.sub_(top).exp_()
        own = residuals.gather(1, codes)
        residuals.scatter_(1, codes, 0)
        others = residuals.sum(1, keepdim=True)
        losses = top + torch.log1p(others + (own - 1))
        residuals /= others + own
        return residuals.scatter_(1, codes, -others / (others + own)), losses

    def _widened(self, rows: slice, residuals: Tensor) -> Tensor:
        # Those of a row sum to zero: else a Hessian would see scores that all move alike.
        codes = self.codes[rows]
        residuals.scatter_(1, codes, 0)
        return residuals.scatter_(1, codes, -residuals.sum(1, keepdim=True))

    def _curve(self, rows: slice, residuals: Tensor, moves: Tensor) -> Tensor:
        codes = self.codes[rows]
        moves -= moves.gather(1, codes)
        mean = torch.einsum("nk,nk->n", residuals, moves)[:, None]
        weighted = moves.sub_(mean).mul_(residuals)
        return weighted.scatter_(1, codes, -(1 + residuals.gather(1, codes)) * mean)

    def class_curvature(self, theta: Tensor) -> Tensor:
        """(K, K) sum over rows of diag(p) - p p^T at theta, the last point of `value_and_gradient`."""
        curvature = self.features.eigenvalues.new_zeros(self.n_scores, self.n_scores)
        for rows in self.features.slices(self.step):
            codes, residuals = self.codes[rows], self.residuals(rows, theta)
            probabilities = residuals.to(self.features.coarse_dtype, copy=True)
            probabilities.scatter_(1, codes, (1 + residuals.gather(1, codes)).to(probabilities.dtype))
            curvature -= torch.mm(probabilities.T, probabilities)
        # Rows of the curvature sum to zero; a diagonal from 1 - p would lose the digits of separated rows.
        curvature = curvature.double()
        curvature.fill_diagonal_(0)
        return curvature - torch.diag(curvature.sum(1))

    def likely(self, theta: Tensor) -> Pairs | None:
        """Pairs of a row and a class that is likely there, at theta; None where they would not pay."""
        if not self.features.held or theta.device.type != "cpu":
            return None
        n_each = max(1, SAMPLED_ENTRIES // (SAMPLES * self.n_scores))
        starts = range(0, self.n_rows, max(n_each, -(-self.n_rows // SAMPLES)))
        sampled = [self.residuals(slice(start, min(start + n_each, self.n_rows)), theta) for start in starts]
        least = least_kept(torch.cat(sampled))
        if least is None:
            return None
        pairs = []
        for rows in self.features.slices(self.step):
            # As they are kept: what preconditions need not be exact.
            residuals = self.residuals(rows, theta) if self.kept is None else self.kept[rows]
            codes = self.codes[rows]
            row, column = (residuals > least).scatter_(1, codes, True).nonzero(as_tuple=True)
            # Of a wrong class the residual is its probability, of the label's that less the weight of the row.
            weights = residuals[row, column].to(self.features.dtype)
            weights += (column == codes[row, 0]) * self._of_rows(rows, weights)[row, 0]
            pairs.append((row + rows.start, column, weights.clamp_(min=1e-30)))
        row, column, weights = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return row, column, weights

    def _of_rows(self, rows: slice, like: Tensor) -> Tensor:
        """(n, 1) weights of some rows."""
        return like.new_ones(len(self.codes[rows]), 1)

    def own_curvature(self, theta: Tensor) -> Tensor:
        """(K,) diagonal of the class curvature: sum over rows of p (1 - p) at theta, as in `class_curvature`."""
        total = torch.zeros(self.n_scores, dtype=torch.float64, device=theta.device)
        for rows in self.features.slices(self.step):
            for _, part, residuals in self._residual_parts(rows, theta):
                # Of the label's own class the residual is p - 1, of any other p: |r| (1 - |r|) is p (1 - p) of both.
                total += self._own_curvature(part, residuals.abs()).sum(0, dtype=torch.float64)
        return total

    def _own_curvature(self, rows: slice, distance: Tensor) -> Tensor:
        """p (1 - p), (n, K), from absolute residuals."""
        return distance * (1 - distance)


class DiagonalPreconditioner:
    """What `KroneckerPreconditioner` is, from the diagonal of the curvature alone: K numbers in the place of K^2.

    Of many classes each row has few that are likely, so that little of the curvature stands off the diagonal.
    """

    def __init__(self, curvature: Tensor, eigenvalues: Tensor, C: float):
        values = curvature.clamp(min=float(curvature.max()) * 1e-9 + 1e-30)
        variances = torch.cat([eigenvalues.double(), eigenvalues.new_ones(1, dtype=torch.float64)])
        scale = C * values[:, None] * variances
        scale[:, :-1] += 1
        self._scale = scale.to(eigenvalues.dtype)

    def __call__(self, gradient: Tensor) -> Tensor:
        """The step that would undo the gradient."""
        step = gradient / self._scale
        return step - step.mean(0)


class KroneckerPreconditioner:
    """Inverse of C * S (x) covariance + I, S the curvature summed over rows: diagonal in two eigenbases.

    The Hessian of the cross-entropy is a sum over rows of (diag(p) - p p^T) (x) x x^T; its Kronecker approximation
    takes both factors as independent (Martens and Grosse, Optimizing Neural Networks with Kronecker-factored
    Approximate Curvature, 2015, arXiv:1503.05671). The intercept counts as a feature of variance 1 without penalty.
    """

    def __init__(self, curvature: Tensor, eigenvalues: Tensor, C: float):
        # Adding one vector to the rows of all classes changes no probability: that direction has no curvature, and
        # rounding errors along it must not be blown up.
        values, vectors = torch.linalg.eigh(curvature + curvature.diagonal().mean())
        values = values.clamp(min=float(values[-1]) * 1e-9 + 1e-30)
        self._vectors = vectors.to(eigenvalues.dtype)
        variances = torch.cat([eigenvalues.double(), eigenvalues.new_ones(1, dtype=torch.float64)])
        scale = C * values[:, None] * variances
        scale[:, :-1] += 1
        self._scale = scale.to(eigenvalues.dtype)

    def __call__(self, gradient: Tensor) -> Tensor:
        """The step that would undo the gradient."""
        step = self._vectors @ ((self._vectors.T @ gradient) / self._scale)
        return step - step.mean(0)
