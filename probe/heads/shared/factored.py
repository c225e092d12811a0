"""A linear output of very many classes, trained by a loss of the spherical family at a cost that they do not raise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from probe.heads.shared.spherical import coefficients

WORST = 1e4
"""Condition of what is kept as factors, beyond which they are multiplied out: rounding grows with it."""


class FactoredOutput:
    """W (K, E) as V U + 1 r', with W'W and W'1, so that a step of gradient descent touches rows of V alone.

    The gradient of a loss that knows the logits o = W h by their sum, the sum of their squares and o_c alone is
    a 1 + b o + g e_c for a row of class c, hence by W, over a batch, W M + 1 m' + a few rows, M = sum b h h'. A step is
    then U <- U (1 - lr M), r likewise, and additions to the rows of V of the classes in the batch; sums over classes
    come from h' (W'W) h and (W'1)' h. B rows cost O(B E^2 + E^3), whatever K. Computed in doubles.

    Source: Vincent, de Brebisson and Bouthillier, "Efficient exact gradient update for training deep networks with very
    large sparse targets", 2015, arXiv 1412.7091. Departures: a batch at a time; U is multiplied into V where it or a
    step is ill-conditioned.

    Args:
        W: (K, E) first coefficients; E counts intercepts, of the constant feature 1.
        loss: One of the spherical family.
        decay: (E,) weight decay of each column.
    """

    def __init__(self, W: Tensor, loss: str, decay: Tensor):
        self.loss, self.decay = loss, decay.double()
        self.V, self.n_classes = W.double().clone(), len(W)
        self.U = torch.eye(W.shape[1], dtype=torch.float64, device=W.device)
        self.inverse, self.r = self.U.clone(), torch.zeros_like(self.V[0])
        self.squares, self.sums = self.V.T @ self.V, self.V.sum(0)

    def step(self, batch: Tensor, targets: Tensor, lr: float) -> None:
        """One step on the mean loss of rows (B, E) with classes (B,)."""
        H = batch.double()
        classes, place = targets.unique(return_inverse=True)
        own_rows = self.V[classes] @ self.U + self.r
        own, s = (H * own_rows[place]).sum(1), H @ self.sums
        q = ((H @ self.squares) * H).sum(1)
        common, by_logit, by_own = coefficients(self.loss, own, s, q, self.n_classes)
        scaled = -lr / len(H) * H
        T = scaled.T @ (by_logit[:, None] * H) - lr * torch.diag(self.decay)
        T.diagonal().add_(1)
        shift, moves = scaled.T @ common, torch.zeros_like(own_rows).index_add_(0, place, by_own[:, None] * scaled)
        self._count(T, shift, moves, own_rows @ T + shift)
        self.U, self.r = self.U @ T, self.r @ T + shift
        back, fault = torch.linalg.inv_ex(T)
        self.inverse = back @ self.inverse
        well = not int(fault) and float(self.U.norm() * self.inverse.norm()) < WORST * len(T)
        if not well:
            self._multiply_out()
        self.V[classes] += moves @ self.inverse
        if not well:
            self.squares, self.sums = self.V.T @ self.V, self.V.sum(0)

    def _count(self, T: Tensor, shift: Tensor, moves: Tensor, own_rows: Tensor) -> None:
        """Brings W'W and W'1 to W T + 1 shift', then to what `moves` adds to its rows `own_rows`."""
        sums = T.T @ self.sums
        between = torch.outer(sums, shift)
        added = own_rows.T @ moves
        self.squares = T.T @ self.squares @ T + between + between.T + self.n_classes * torch.outer(shift, shift)
        self.squares += added + added.T + moves.T @ moves
        self.sums = sums + self.n_classes * shift + moves.sum(0)

    def _multiply_out(self) -> None:
        self.V = self.weights()
        self.U = torch.eye(len(self.U), dtype=torch.float64, device=self.U.device)
        self.inverse, self.r = self.U.clone(), torch.zeros_like(self.r)

    def weights(self) -> Tensor:
        """W (K, E)."""
        return self.V @ self.U + self.r


def train_factored(
    start: Tensor,
    batches: Iterable[tuple[Tensor, Tensor]],
    n_steps: int,
    loss: str,
    lrs: Sequence[float],
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """Coefficients (L, K, D) and intercepts (L, K), in float32, that L learning rates end at.

    Args:
        start: (K, D) first coefficients; intercepts start at 0.
        batches: Rows (B, D) and their classes (B,).
        n_steps: How many batches there are; learning rates fall along a half cosine.
        loss: One of the spherical family.
        lrs: Learning rates.
        weight_decay: Of the coefficients; the intercepts have none.
    """
    decay = pad(torch.full_like(start[0], weight_decay), (0, 1))
    outputs = [FactoredOutput(pad(start, (0, 1)), loss, decay) for _ in lrs]
    for step, (batch, targets) in enumerate(batches):
        share, rows = 0.5 * (1 + math.cos(math.pi * step / n_steps)), pad(batch, (0, 1), value=1.0)
        for lr, output in zip(lrs, outputs, strict=True):
            output.step(rows, targets, lr * share)
    W = torch.stack([output.weights() for output in outputs]).float()
    return W[:, :, :-1], W[:, :, -1]
