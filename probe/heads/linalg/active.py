"""Curvature of hinges: that of the rows on their bent side, label by label, kept up as rows come and go."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.device import budget
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.losses import Preconditioner

ACTIVE_BYTES, ACTIVE_PART = 2**30, 8
"""Curvatures of all labels and their inverses are held up to this size, on a GPU a part of so many of what is free."""
TIMES_HELD = 2
"""The sums and their inverses."""
JITTER = 1e-5
"""On the diagonal, which is 1: the sums are of float32, from which rows were added and taken away."""


class ActiveCurvature:
    """Sums of x x' over the rows that are active, (K, R + 1, R + 1), the intercept a feature that is 1 everywhere.

    From one point to the next few rows change sides, and only those are added or taken away.
    """

    def __init__(self, features: EigenRows, n_rows: int, n_scores: int):
        self._features = features
        device, width = features.eigenvalues.device, features.rank + 1
        self._sums = torch.zeros(n_scores, width, width, dtype=features.dtype, device=device)
        self._active = torch.zeros(n_rows, n_scores, dtype=torch.bool, device=device)
        self._inverses, self._scales = torch.empty_like(self._sums), self._sums.new_empty(n_scores, width)
        self._C, self._inverted = 0.0, torch.zeros(n_scores, dtype=torch.bool, device=device)

    @staticmethod
    def n_bytes(rank: int, n_scores: int, itemsize: int) -> int:
        """What it takes."""
        return TIMES_HELD * n_scores * (rank + 1) ** 2 * itemsize

    @staticmethod
    def fits(features: EigenRows, n_scores: int) -> bool:
        """Whether there is room for it, and rows to read at will."""
        n_bytes = ActiveCurvature.n_bytes(features.rank, n_scores, features.dtype.itemsize)
        return features.held and n_bytes <= budget(str(features.eigenvalues.device), ACTIVE_BYTES, ACTIVE_PART)

    def update(self, active: Tensor) -> None:
        """Brings the sums to the rows that are active, (N, K)."""
        rows = self._features.chunk(slice(0, len(active)))
        moved = (active != self._active).any(0)
        self._inverted &= ~moved
        for k in moved.nonzero()[:, 0].tolist():
            now, before = active[:, k], self._active[:, k]
            changed = now != before
            if int(changed.sum()) > int(now.sum()):
                self._sums[k] = 0
                changed, before = now, torch.zeros_like(now)
            for part, sign in ((changed & now, 1), (changed & before, -1)):
                places = part.nonzero()[:, 0]
                if len(places):
                    self._add(self._sums[k], rows[places], sign)
        self._active = active

    def _add(self, total: Tensor, rows: Tensor, sign: int) -> None:
        total[:-1, :-1].addmm_(rows.T, rows, alpha=sign)
        means = sign * rows.sum(0)
        total[:-1, -1] += means
        total[-1, :-1] += means
        total[-1, -1] += sign * len(rows)

    def product(self, direction: Tensor) -> Tensor:
        """2 times the sums, times a (K, R + 1) direction."""
        return 2 * torch.bmm(self._sums, direction.to(self._sums.dtype)[:, :, None])[:, :, 0]

    def preconditioner(self, C: float) -> Preconditioner | None:
        """Solves with 2 C times the sums, and 1 for each coefficient but the intercept; None if rounding forbids it.

        Of labels whose rows stay as they are, the inverses at the same C stay too.
        """
        if C != self._C:
            self._C, self._inverted = C, torch.zeros_like(self._inverted)
        for k in (~self._inverted).nonzero()[:, 0].tolist():
            hessian = self._sums[k] * (2 * C)
            diagonal = hessian.diagonal()
            diagonal[:-1] += 1
            scale = diagonal.clamp(min=1e-30).rsqrt()
            hessian = hessian * scale[:, None] * scale
            hessian.diagonal().add_(JITTER)
            factor, failed = torch.linalg.cholesky_ex(hessian)
            if failed:
                return None
            self._inverses[k], self._scales[k], self._inverted[k] = torch.cholesky_inverse(factor), scale, True
        scales, inverses = self._scales, self._inverses
        return lambda gradient: scales * torch.bmm(inverses, (scales * gradient)[:, :, None])[:, :, 0]
