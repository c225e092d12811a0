"""Solutions of kernel ridge regression for every penalty, from one eigendecomposition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.heads.shared.head import FloatArray


@dataclass(frozen=True)
class KernelPath:
    """Solutions for every penalty: scores are k(x, kept rows) A + b, A = basis (cross / (values + alpha)).

    Attributes:
        basis: (m, r).
        values: (r,) eigenvalues of the kernel over the rows.
        cross: (r, K) targets in the basis.
        mean: (m,) mean of k(x, kept rows) over the rows; 0 where no intercept is fitted.
        y_mean: (K,) likewise of the targets.
    """

    basis: Tensor
    values: Tensor
    cross: Tensor
    mean: Tensor
    y_mean: Tensor

    @classmethod
    def exact(cls, kernel: Tensor, Y: Tensor, *, centred: bool) -> KernelPath:
        """All rows are kept: `kernel` is (n, n) between them."""
        mean = kernel.mean(0) if centred else torch.zeros_like(kernel[0])
        y_mean = Y.mean(0) if centred else torch.zeros_like(Y[0])
        values, vectors = positive_part(kernel - mean - mean[:, None] + mean.mean() if centred else kernel)
        # Beside the constant, which has no eigenvalue, others may be as small: rounding mixes them.
        basis = vectors - vectors.mean(0) if centred else vectors
        return cls(basis, values, vectors.T @ (Y - y_mean), mean, y_mean)

    @classmethod
    def through(cls, landmarks: Tensor, blocks: Iterator[tuple[Tensor, Tensor]], *, centred: bool) -> KernelPath:
        """Ridge regression on k(x, landmarks) L^-1/2, L the (m, m) kernel between the landmarks.

        Source: Williams and Seeger, Using the Nyström method to speed up kernel machines, 2001.
        """
        values, vectors = positive_part(landmarks)
        root = vectors / values.sqrt()
        G, total = torch.diag(torch.zeros_like(values)), torch.zeros_like(landmarks[0])
        Q, y_total, n = None, None, 0
        for kernel, Y in blocks:
            features = kernel @ root
            G += features.T @ features
            Q = features.T @ Y if Q is None else Q + features.T @ Y
            y_total = Y.sum(0) if y_total is None else y_total + Y.sum(0)
            total += kernel.sum(0)
            n += len(Y)
        assert Q is not None
        assert y_total is not None
        mean, y_mean = (total / n, y_total / n) if centred else (torch.zeros_like(total), torch.zeros_like(y_total))
        offset = mean @ root
        values, vectors = positive_part(G - n * torch.outer(offset, offset))
        return cls(root @ vectors, values, vectors.T @ (Q - n * torch.outer(offset, y_mean)), mean, y_mean)

    def at(self, alphas: FloatArray) -> tuple[Tensor, Tensor]:
        """A (m, P, K) and b (P, K) of P penalties, from one product."""
        shares = 1 / (
            self.values[:, None] + torch.as_tensor(alphas, dtype=self.values.dtype, device=self.values.device)
        )
        A = (self.basis @ (shares[:, :, None] * self.cross[:, None]).flatten(1)).unflatten(1, (-1, self.cross.shape[1]))
        return A, self.y_mean - torch.tensordot(self.mean, A, 1)


def positive_part(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, without those that are zero but for rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
    return values[kept], vectors[:, kept]
