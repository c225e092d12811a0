"""Curvature that earlier Newton systems met, kept to precondition later ones."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.heads.linalg.conjugate import Curvature
from probe.heads.linalg.losses import Preconditioner

KEPT = 20
"""Directions; more bring little, and each costs four passes over the coefficients."""

KEPT_BYTES = 2**27
"""Of the directions that are kept, and of each of three other forms of them."""


class RecycledCurvature:
    """The last directions of conjugate gradients, as limited-memory BFGS updates of a preconditioner.

    Automatic preconditioning by limited memory quasi-Newton updating (Morales and Nocedal, 2000). What is kept is the
    Hessian of the loss alone: C times it plus the penalty's identity is the curvature at any C, so that along a path
    each C profits from the ones before.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Lets go of all directions and their memory."""
        self._directions: Tensor | None = None
        self._of_loss: Tensor | None = None

    @staticmethod
    def room(direction: Tensor) -> int:
        """How many directions of this size are kept."""
        return min(KEPT, KEPT_BYTES // direction.nbytes)

    def remember(self, seen: list[Curvature]) -> None:
        """Keeps the latest; directions of one system are conjugate and come in order."""
        kept = self.room(seen[0][0]) if seen else 0
        if not kept:
            return
        # Each list is stacked once, of what is kept alone: a part of a larger tensor would hold on to the whole.
        directions, of_loss = zip(*seen[-kept:], strict=True)
        self._directions = torch.stack([*self._last(self._directions, kept - len(directions)), *directions])
        self._of_loss = torch.stack([*self._last(self._of_loss, kept - len(of_loss)), *of_loss])

    @staticmethod
    def _last(tensors: Tensor | None, n: int) -> list[Tensor]:
        return [] if tensors is None else list(tensors[max(0, len(tensors) - n) :])

    def preconditioner(self, plain: Preconditioner, C: float) -> Preconditioner:
        """`plain` with the curvature kept, for the objective C * loss + 1/2 ||W||^2.

        The two loops of Nocedal (1980) over directions s_i and products y_i solve two triangular systems in U, U_ij =
        s_i y_j for i <= j. With T = U^-1 S they are (I - T' Y) plain (I - Y' T) + T' diag(U) T, positive as it stands,
        so that rounding makes it a little worse and never wrong.
        """
        if self._directions is None or self._of_loss is None:
            return plain
        products = C * self._of_loss
        products[..., :-1] += self._directions[..., :-1]
        S, Y = self._directions.flatten(1), products.flatten(1)
        curvature = S @ Y.T
        curved = curvature.diagonal() > 0
        if not curved.all():
            S, Y, curvature = S[curved], Y[curved], curvature[curved][:, curved]
        own = curvature.diagonal()
        T = torch.linalg.inv(curvature.double().triu()).to(S.dtype) @ S

        def precondition(gradient: Tensor) -> Tensor:
            weights = T @ gradient.flatten()
            step = plain(gradient - (weights @ Y).view_as(gradient))
            return step + ((own * weights - Y @ step.flatten()) @ T).view_as(gradient)

        return precondition
