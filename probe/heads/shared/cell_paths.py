"""Paths of logistic regressions on several features of the same rows: small problems in batches, large ones alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probe.core.arrays import cell_of
from probe.core.base import IntArray
from probe.core.terminal import passing
from probe.heads.linalg.binary import BinaryLosses
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.grid import BATCH_BYTES, solve_grid
from probe.heads.linalg.grid_losses import BinaryGridLoss, GridLoss
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.linalg.newton import Solution, solve_path, warn_unconverged
from probe.heads.shared.head import FloatArray


@dataclass(frozen=True)
class CellPath:
    """What was solved on the features of one cell.

    Attributes:
        cell: Its number.
        coefs: (P, K, D) for ascending Cs; one row instead of K for two classes.
        intercepts: (P, K) likewise; -inf for a class without rows.
        solutions: P of them.
    """

    cell: int
    coefs: FloatArray
    intercepts: FloatArray
    solutions: list[Solution]


@dataclass(frozen=True)
class CellPaths:
    """The problems of all cells of X (N, G, D); the settings are those of `LinearProbe`."""

    n_classes: int
    scaling: str
    tol: float
    max_iter: int
    device: str

    def solve(
        self, X: Any, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None = None
    ) -> Iterator[CellPath]:
        """One cell after the other, in order.

        Args:
            X: (N, G, D), lazy or not.
            codes: (N,) labels 0..K-1; classes may be absent.
            Cs: (P, G) ascending for each cell.
            start: Coefficients (G, K, D) and intercepts (G, K) to start from.
        """
        present, codes = np.unique(codes, return_inverse=True)
        n, n_cells, width = X.shape
        per = max(1, BATCH_BYTES // (4 * n * (min(n, width) + 3 * len(present))))
        short: dict[float, Solution] = {}
        batches = [slice(first, min(first + per, n_cells)) for first in range(0, n_cells, per)]
        for batch in passing(batches, n_cells, " cells"):
            cells = range(batch.start, batch.stop)
            rows = [EigenRows(cell_of(X, cell), scaling=self.scaling, device=self.device) for cell in cells]
            begin = (
                None if start is None else [self._start(part, start, c) for part, c in zip(rows, cells, strict=True)]
            )
            solved = self._batch(rows, codes, len(present), Cs[:, batch], begin)
            for cell, part, solutions in zip(cells, rows, solved, strict=True):
                short |= {C: s for C, s in zip(Cs[:, cell].tolist(), solutions, strict=True) if not s.converged}
                yield CellPath(cell, *self._coefficients(part, solutions, present, X), solutions)
        warn_unconverged(list(short.values()), list(short))

    def _batch(self, rows: list[EigenRows], codes: IntArray, n: int, Cs: FloatArray, begin: Any) -> Any:
        import torch

        two = self.n_classes == n == 2
        options: Any = {"tol": self.tol, "max_iter": self.max_iter}

        def alone(g: int) -> list[Solution]:
            loss = BinaryLosses(rows[g], codes[:, None]) if two else MultinomialLoss(rows[g], codes, n)
            return solve_path(loss, Cs[:, g].tolist(), **options, start=None if begin is None else begin[g])

        if len(rows) == 1 or not all(part.held for part in rows):
            return [alone(g) for g in range(len(rows))]
        width = max(part.rank for part in rows)
        start = None if begin is None else torch.stack([_widened(theta, width) for theta in begin])
        loss = BinaryGridLoss(rows, codes) if two else GridLoss(rows, codes, n)
        found = [
            [replace(s, theta=_narrowed(s.theta, part.rank)) for s in path]
            for part, path in zip(rows, solve_grid(loss, torch.as_tensor(Cs), **options, start=start), strict=True)
        ]
        return [path if all(s.converged for s in path) else alone(g) for g, path in enumerate(found)]

    def _start(self, part: EigenRows, start: tuple[FloatArray, FloatArray], cell: int) -> Any:
        return part.rotate(start[0][cell], start[1][cell])

    def _coefficients(
        self, part: EigenRows, solutions: list[Solution], present: IntArray, X: Any
    ) -> tuple[FloatArray, FloatArray]:
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        if self.n_classes == len(present) == 2:
            found = [part.unrotate(solution.theta) for solution in solutions]
            return tuple(np.stack(column).astype(dtype) for column in zip(*found, strict=True))  # type: ignore[return-value]
        coefs = np.zeros((len(solutions), self.n_classes, X.shape[2]), dtype=dtype)
        intercepts = np.full((len(solutions), self.n_classes), -np.inf, dtype=dtype)
        for i, solution in enumerate(solutions):
            coefs[i, present], intercepts[i, present] = part.unrotate(solution.theta - solution.theta.mean(0))
        if self.n_classes == 2:
            coefs, intercepts = np.diff(coefs, axis=1), np.diff(intercepts, axis=1)
        return coefs, intercepts


def _widened(theta: Any, width: int) -> Any:
    """(K, R + 1) coefficients and intercepts among `width` directions, the further ones 0."""
    from torch.nn.functional import pad

    return _with_last(pad(theta[..., :-1], (0, width + 1 - theta.shape[-1])), theta)


def _narrowed(theta: Any, rank: int) -> Any:
    """(K, R + 1) of the first `rank` directions."""
    return theta if theta.shape[-1] == rank + 1 else _with_last(theta[..., :rank], theta)


def _with_last(coefficients: Any, theta: Any) -> Any:
    import torch

    return torch.cat([coefficients, theta[..., -1:]], dim=-1)
