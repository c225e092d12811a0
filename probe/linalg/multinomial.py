"""Cross-entropy of a linear classifier over many rows: value, gradient, Hessian products and a preconditioner.

Coefficients and intercepts travel together as theta (K, R + 1), the intercepts in the last column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probe.base import IntArray
from probe.linalg.eigen import EigenRows

CHUNK_ENTRIES = 2**19
"""Logits per chunk: few enough to stay in cache between the elementwise steps."""
CHUNK_BYTES = 64 * 2**20
"""Rows per chunk, counted in float64."""
KEEP_BYTES = 2 * 2**30
"""Residuals up to this size are kept between a gradient and its Hessian products, larger ones computed again."""
LOGITS_BYTES = KEEP_BYTES // 4
"""Logits up to this size are kept as well: a path needs those of two solutions and of the point in work."""


class MultinomialLoss:
    """Sum over rows of -log softmax(W x + b)_y, with W (K, R) and b (K,).

    A row whose probability is nearly all on its label has a residual near 0 that 1 - p would round away: the label's
    own entry is always computed from the others, so that separated rows keep their digits in float32.
    """

    def __init__(self, features: EigenRows, codes: IntArray, n_classes: int):
        self.features = features
        self.n_classes = n_classes
        device = features.eigenvalues.device
        self.codes = torch.as_tensor(codes, dtype=torch.int64, device=device)[:, None]
        # Few classes would make long chunks, and a chunk is a copy where rows come from disk or another precision.
        entries, n_bytes = (CHUNK_ENTRIES, CHUNK_BYTES) if device.type == "cpu" else (2**27, 2**30)
        self.step = max(1, min(entries // n_classes, n_bytes // (8 * max(1, features.rank))))
        self.counts = torch.bincount(self.codes[:, 0], minlength=n_classes)
        self.kept: Tensor | None = None
        self.logits: Tensor | None = None
        if len(codes) * n_classes * features.dtype.itemsize <= KEEP_BYTES:
            self.kept = torch.empty(len(codes), n_classes, dtype=features.dtype, device=device)

    def prior(self) -> Tensor:
        """The optimum without features: zero coefficients, log class frequencies as intercepts."""
        theta = torch.zeros(self.n_classes, self.features.rank + 1, dtype=self.features.dtype, device=self.codes.device)
        log_counts = self.counts.double().log()
        theta[:, -1] = log_counts - log_counts.mean()
        return theta

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

    def value_and_gradient(self, theta: Tensor, logits: Tensor | None = None) -> tuple[float, Tensor]:
        """The sum in float64 and its (K, R + 1) gradient; residuals are kept for `hessian_product`.

        Computes in the precision of theta, whatever that of the features. `logits` (N, K) of theta save half of the
        work where they are known; where they are kept, they are in `logits` after the call.
        """
        W, b = self.features.enter(theta[:, :-1]), theta[:, -1]
        value = torch.zeros((), dtype=torch.float64, device=theta.device)
        coef, intercept = torch.zeros_like(W), torch.zeros_like(b)
        self.logits = logits if logits is not None else self._room_for_logits(theta)
        for rows in self.features.slices(self.step):
            chunk = self.features.chunk(rows).to(W.dtype)
            if logits is not None:
                own = logits[rows].clone()
            else:
                own = torch.addmm(b, chunk, W.T)
                if self.logits is not None:
                    self.logits[rows] = own
            residuals, losses = self._residuals(rows, own)
            value += losses.sum(dtype=torch.float64)
            coef.addmm_(residuals.T, chunk)
            intercept += residuals.sum(0)
            if self.kept is not None:
                self.kept[rows] = residuals
        return value.item(), torch.cat([self.features.leave(coef), intercept[:, None]], dim=1)

    def _room_for_logits(self, theta: Tensor) -> Tensor | None:
        size = len(self.codes) * self.n_classes * theta.itemsize
        return theta.new_empty(len(self.codes), self.n_classes) if size <= LOGITS_BYTES else None

    def residuals(self, rows: slice, theta: Tensor) -> Tensor:
        """Residuals at the theta of the last `value_and_gradient`."""
        if self.kept is not None:
            return self.kept[rows]
        theta = theta.to(self.features.dtype)
        W = self.features.enter(theta[:, :-1])
        return self._residuals(rows, torch.addmm(theta[:, -1], self.features.chunk(rows), W.T))[0]

    def hessian_product(self, theta: Tensor, direction: Tensor) -> Tensor:
        """The Hessian at theta, the last point of `value_and_gradient`, times a (K, R + 1) direction.

        Computes in the precision of the features, its matrix products in bfloat16 where the features offer that.
        """
        V, c = self.features.enter(direction[:, :-1]), direction[:, -1]
        coef, intercept = torch.zeros_like(V), torch.zeros_like(c)
        for rows in self.features.slices(self.step):
            chunk, codes = self.features.coarse_chunk(rows), self.codes[rows]
            residuals = self.residuals(rows, theta)
            moves = torch.mm(chunk, V.T.to(chunk.dtype)).to(V.dtype).add_(c)
            moves -= moves.gather(1, codes)
            mean = torch.einsum("nk,nk->n", residuals, moves)[:, None]
            weighted = moves.sub_(mean).mul_(residuals)
            weighted.scatter_(1, codes, -(1 + residuals.gather(1, codes)) * mean)
            coef += torch.mm(weighted.T.to(chunk.dtype), chunk)
            intercept += weighted.sum(0)
        return torch.cat([self.features.leave(coef), intercept[:, None]], dim=1)

    def class_curvature(self, theta: Tensor) -> Tensor:
        """(K, K) sum over rows of diag(p) - p p^T at theta, the last point of `value_and_gradient`."""
        curvature = self.features.eigenvalues.new_zeros(self.n_classes, self.n_classes)
        for rows in self.features.slices(self.step):
            codes, probabilities = self.codes[rows], self.residuals(rows, theta)
            probabilities = probabilities.scatter(1, codes, 1 + probabilities.gather(1, codes))
            curvature.addmm_(probabilities.T, probabilities, alpha=-1)
        # Rows of the curvature sum to zero; a diagonal from 1 - p would lose the digits of separated rows.
        curvature = curvature.double()
        curvature.fill_diagonal_(0)
        return curvature - torch.diag(curvature.sum(1))


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
