"""The Hessian of a cross-entropy over many classes, from the few classes that are likely in each row."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from probe.heads.linalg.conjugate import conjugate_gradients
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.losses import Preconditioner

PAIRS_PER_ROW = 32
"""Of a row and a class that are kept at most, on average; each costs two products of a row and coefficients."""
ALL_BUT = 0.01
"""Of the probability on wrong classes, so much may be left out: more pairs than that takes are not kept."""
LEAST_KEPT = 0.25
"""Where pairs hold less of it, they say little that the curvature class by class does not."""
SAMPLED_ENTRIES, SAMPLES = 2**21, 16
"""Probabilities from which the least that is kept is read off, and the places where these lie among the rows."""
ACCURACY, MAX_STEPS = 0.2, 60
"""Of a solve, which only preconditions, and its most steps."""

Pairs = tuple[Tensor, Tensor, Tensor]
"""Rows, classes and probabilities times weights of rows, (P,) each, sorted by rows."""


def least_kept(residuals: Tensor) -> float | None:
    """From which probability on a wrong class is kept, by the residuals (n, K) of some rows; None where none pays."""
    found = torch.topk(residuals.flatten(), min(residuals.numel(), PAIRS_PER_ROW * len(residuals))).values.clamp(min=0)
    shares = found.cumsum(0, dtype=torch.float64) / residuals.clamp(min=0).sum(dtype=torch.float64).clamp(min=1e-300)
    if not shares[-1] >= LEAST_KEPT:
        return None
    return float(found[min(int((shares < 1 - ALL_BUT).sum()), len(found) - 1)])


class LikelyClasses:
    """Pairs of a row n and a class k whose probability p_nk is large, the label's own always, and the rest in one sum.

    Of a row of weight w is kept a_k = w p_k, with sum s. Moves v of the scores change its residuals by a_k (v_k -
    sum a v / s): the variance under p is never less, since that within what is kept is a part of it, and so this
    part of the Hessian is a bound from below. What is left out is taken as independent of the features, as in
    `DiagonalPreconditioner`.

    Args:
        features: Held rows.
        pairs: n, k and a.
        curvature: (K,) sums over the rows of w p (1 - p), kept or not.
    """

    def __init__(self, features: EigenRows, pairs: Pairs, curvature: Tensor):
        self._n_classes = len(curvature)
        self._rows, self._classes, self._weights = pairs
        self._X = features.chunk(slice(0, features.n_rows))
        n_rows = len(self._X)
        self._starts = _starts(self._rows, n_rows)
        self._totals = self._of_row(self._weights)
        # The same pairs class by class: sums over the rows of a class are then those of one place.
        self._order = torch.argsort(self._classes, stable=True)
        self._class_starts = _starts(self._classes[self._order], self._n_classes)
        own = self._weights * (1 - self._weights / self._totals[self._rows])
        kept = torch.zeros_like(curvature).index_add_(0, self._classes, own.to(curvature.dtype))
        rest = (curvature - kept).clamp(min=0).to(features.dtype)
        variances = torch.cat([features.eigenvalues, features.eigenvalues.new_ones(1)])
        self._rest = rest[:, None] * variances

    def _of_row(self, values: Tensor) -> Tensor:
        """(N,) sums over the pairs of each row."""
        return torch.zeros(len(self._X), dtype=values.dtype).index_add_(0, self._rows, values)

    def product(self, direction: Tensor) -> Tensor:
        """The Hessian of the loss, about, times a (K, R + 1) direction."""
        W = direction[:, :-1].contiguous()
        size = (len(self._X), self._n_classes)
        pattern = _compressed(self._starts, self._classes, torch.zeros_like(self._weights), size)
        moves = torch.sparse.sampled_addmm(pattern, self._X, W.T, beta=0.0).values() + direction[self._classes, -1]
        mean = self._of_row(self._weights * moves) / self._totals
        changes = self._weights * (moves - mean[self._rows])
        by_class = _compressed(self._class_starts, self._rows[self._order], changes[self._order], size[::-1])
        total = torch.empty_like(direction)
        total[:, :-1] = by_class @ self._X
        total[:, -1] = torch.zeros_like(direction[:, -1]).index_add_(0, self._classes, changes)
        total.addcmul_(self._rest, direction)
        # As of the Hessian: scores that all move alike change nothing. Of what is left out they would.
        return total.sub_(total.mean(0))


def _compressed(starts: Tensor, places: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A sparse matrix of compressed rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support")
        return torch.sparse_csr_tensor(starts, places, values, size, check_invariants=False)


def _starts(sorted_codes: Tensor, n: int) -> Tensor:
    """(n + 1,) where each code begins among sorted ones."""
    counts = torch.bincount(sorted_codes, minlength=n)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


class LikelyPreconditioner:
    """Solves with C times the Hessian of the likely classes plus the penalty's identity, by conjugate gradients."""

    def __init__(self, likely: LikelyClasses, plain: Preconditioner, C: float):
        self._likely, self._plain, self._C = likely, plain, C

    def __call__(self, gradient: Tensor) -> Tensor:
        """The step that would undo the gradient."""
        return self.within(gradient)[0]

    def within(self, gradient: Tensor) -> tuple[Tensor, float]:
        """The step that would undo the gradient, and how much gradient times step may lack, as the solve is cut short.

        It lacks the squared error in the metric of the matrix, r' A^-1 r of the residual r that is left.
        """
        found = conjugate_gradients(self._likely.product, gradient, self._C, self._plain, ACCURACY, max_steps=MAX_STEPS)
        return found.solution, max(0.0, found.left) / found.softest
