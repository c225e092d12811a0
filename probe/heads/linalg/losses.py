"""Sums over many rows of a loss of linear scores: value, gradient and Hessian products, chunk by chunk.

Coefficients and intercepts travel together as theta (K, R + 1), the intercepts in the last column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from probe.core.device import budget
from probe.heads.linalg.eigen import EigenRows

CHUNK_ENTRIES = 2**19
"""Logits per chunk: few enough to stay in cache between the elementwise steps."""
MANY_SCORES, LEAST_ROWS = 2048, 256
"""Above so many, a chunk has so many rows at least: each chunk adds to all coefficients."""
PART_ENTRIES = 2**17
"""Logits of such a chunk that pass through the elementwise steps at once, in the nearest cache."""
CHUNK_BYTES = 64 * 2**20
"""Rows per chunk, counted in float64."""
KEEP_BYTES = 3 * 2**29
"""Residuals up to this size are kept between a gradient and its Hessian products, those of up to twice as many in
bfloat16 where the features come in it too, larger ones computed again."""
LOGITS_BYTES = 2**29
"""Logits up to this size are kept as well: a path needs those of two solutions and of the point in work."""
KEEP_PART, LOGITS_PART = 3, 12
"""The same in parts of the memory that a GPU has free."""


Preconditioner = Callable[[Tensor], Tensor]


class LinearLoss(ABC):
    """Sum over rows of a convex loss of W x + b, with W (K, R) and b (K,).

    Args:
        features: The rows.
        n_rows: How many of them are read here.
        n_scores: K.

    Attributes:
        smooth: Whether the curvature of one solution tells that of others; one with corners in its slope changes at
            once, and what two Hessians say of the same directions would contradict each other.
    """

    smooth: ClassVar[bool] = True

    def __init__(self, features: EigenRows, n_rows: int, n_scores: int):
        self.features = features
        self.n_rows, self.n_scores = n_rows, n_scores
        device = features.eigenvalues.device
        # Few scores would make long chunks, and a chunk is a copy where rows come from disk or another precision.
        entries, n_bytes = (CHUNK_ENTRIES, CHUNK_BYTES) if device.type == "cpu" else (2**27, 2**30)
        least = LEAST_ROWS if n_scores > MANY_SCORES else 1
        self.step = max(1, min(max(entries // n_scores, least), n_bytes // (8 * max(1, features.rank))))
        in_parts = device.type == "cpu" and n_scores > MANY_SCORES
        self.part = max(1, PART_ENTRIES // n_scores) if in_parts else self.step
        self.kept: Tensor | None = None
        self.logits: Tensor | None = None
        self._logits_bytes = budget(str(device), LOGITS_BYTES, LOGITS_PART)
        room = budget(str(device), KEEP_BYTES, KEEP_PART)
        for dtype in (features.dtype, features.coarse_dtype):
            if self.kept is None and n_rows * n_scores * dtype.itemsize <= room:
                self.kept = torch.empty(n_rows, n_scores, dtype=dtype, device=device)

    @abstractmethod
    def prior(self) -> Tensor:
        """The optimum without features: zero coefficients, and the intercepts that the labels' frequencies ask for."""

    @abstractmethod
    def preconditioner(self, theta: Tensor, C: float) -> Preconditioner:
        """About the inverse Hessian of C * loss + 1/2 ||W||^2 at theta, the last point of `value_and_gradient`."""

    @abstractmethod
    def _residuals(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives (n, K) of the loss by the logits, and the loss of each row; may take the logits' place."""

    @abstractmethod
    def _curve(self, rows: slice, residuals: Tensor, moves: Tensor) -> Tensor:
        """Changes (n, K) of the residuals as the logits move by `moves`, whose place they may take."""

    def stretched(self, theta: Tensor, direction: Tensor, C: float) -> Tensor:
        """A direction with a length for each score, of losses that are sums over scores; others leave it as it is."""
        return direction

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
            for places, part in self._parts(rows):
                residuals, losses = self._residuals(part, own[places])
                value += losses.sum(dtype=torch.float64)
                intercept += residuals.sum(0)
                if self.kept is not None:
                    self.kept[part] = residuals
                own = _with_part(own, places, residuals)
            coef.addmm_(own.T, chunk)
        return value.item(), torch.cat([self.features.leave(coef), intercept[:, None]], dim=1)

    def _parts(self, rows: slice) -> Iterator[tuple[slice, slice]]:
        """Places in a chunk, and the rows there, that pass through the elementwise steps at once."""
        n_rows = rows.stop - rows.start
        for start in range(0, n_rows, self.part):
            stop = min(start + self.part, n_rows)
            yield slice(start, stop), slice(rows.start + start, rows.start + stop)

    def _room_for_logits(self, theta: Tensor) -> Tensor | None:
        size = self.n_rows * self.n_scores * theta.itemsize
        return theta.new_empty(self.n_rows, self.n_scores) if size <= self._logits_bytes else None

    def residuals(self, rows: slice, theta: Tensor) -> Tensor:
        """Residuals at the theta of the last `value_and_gradient`, as exact as a Hessian needs them."""
        if self.kept is not None:
            kept = self.kept[rows]
            return kept if kept.dtype == self.features.dtype else self._widened(rows, kept.to(self.features.dtype))
        theta = theta.to(self.features.dtype)
        W = self.features.enter(theta[:, :-1])
        return self._residuals(rows, torch.addmm(theta[:, -1], self.features.chunk(rows), W.T))[0]

    def _residual_parts(self, rows: slice, theta: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Places in a chunk, the rows there and their residuals, in parts as of `_parts`."""
        computed = self.residuals(rows, theta) if self.kept is None else None
        for places, part in self._parts(rows):
            yield places, part, self.residuals(part, theta) if computed is None else computed[places]

    def _widened(self, rows: slice, residuals: Tensor) -> Tensor:
        """Residuals that were rounded, with what must hold between them; may change them."""
        return residuals

    def hessian_product(self, theta: Tensor, direction: Tensor) -> Tensor:
        """The Hessian at theta, the last point of `value_and_gradient`, times a (K, R + 1) direction.

        Computes in the precision of the features, its matrix products in bfloat16 where the features offer that.
        """
        V, c = self.features.enter(direction[:, :-1]), direction[:, -1]
        coef, intercept, coarse = torch.zeros_like(V), torch.zeros_like(c), V.T.to(self.features.coarse_dtype)
        for rows in self.features.slices(self.step):
            chunk = self.features.coarse_chunk(rows)
            moves = torch.mm(chunk, coarse)
            for places, part, residuals in self._residual_parts(rows, theta):
                weighted = self._curve(part, residuals, moves[places].to(V.dtype).add_(c))
                intercept += weighted.sum(0)
                moves = _with_part(moves, places, weighted)
            coef += torch.mm(moves.T.to(chunk.dtype), chunk)
        return torch.cat([self.features.leave(coef), intercept[:, None]], dim=1)


def _with_part(whole: Tensor, places: slice, part: Tensor) -> Tensor:
    """`whole` with `part` at its places, which it may lie at already; the part itself where it is all there is."""
    if len(part) == len(whole):
        return part
    if part.data_ptr() != whole[places].data_ptr():
        whole[places] = part
    return whole
