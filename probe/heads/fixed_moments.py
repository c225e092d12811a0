"""Moment probing without training the projection: moments of fixed directions, classified by logistic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ortho_group
from torch.nn import functional

from probe.core.arrays import RowReader, row_chunks
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.linalg.newton import solve_path, warn_unconverged
from probe.heads.shared.base import check_lazy
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.module_solver import as_tensors
from probe.heads.shared.token_moments import (
    check_moment_options,
    check_patches,
    cross_moments,
    n_pairs,
    normalize_columns,
    split_groups,
)

PROJECTIONS = ("pca", "random")
MAX_MOMENTS = 2**14
"""The solver holds a square matrix of this side: 2 GB."""


class FixedMoments(Head):
    """Logistic regression on the pooled feature and on second moments of tokens in fixed directions. Convex.

    The moments are those of moment probing (Gao et al., ICCV 2023, arXiv 2307.11342) with the projection drawn or
    computed once instead of trained, no affine part in the LayerNorm and no convolutions behind it: every pair of
    neighbouring groups gives its d x d column-normalised cross moments. It is not the method of that paper, whose
    projection is trained: that is `moment_probing`.

    The moments of all training rows are held in memory as float32: D + (n_groups - 1) (hidden_width / n_groups)^2
    numbers a row.

    Args:
        projection: `pca`: the leading principal directions of the training tokens, under a random rotation: tokens are
            uncorrelated along principal directions themselves, and cross moments of these would tell little.
            `random`: Gaussian directions, which may be more than the tokens are wide.
        second_moment: `as_released` subtracts one mean per row and group, `centred` one per row and channel.
        hidden_width: Number of directions.
        n_groups: Groups of directions, a divisor of `hidden_width`.
        n_prefix_tokens: How many tokens stand before the patches. A fact about the features and not a choice: the
            experiment sets it from the backbone.
        Cs: Inverse strengths of the L2 penalty to choose from on validation: C * (sum of cross-entropies)
            + 1/2 ||W||^2 on standardised moments, with one row of W per class also where there are two classes.
        refit: Fit again on train + validation with what was chosen.
        random_state: Seed of the rotation, of the random directions and of the held-out rows.
        device: `auto`, `cpu` or `cuda`; where the moments are computed.
    """

    consumes: ClassVar[tuple[str, ...]] = ("pooled", "tokens")
    searches: ClassVar[Mapping[str, str]] = {"C": "Cs"}

    def __init__(
        self,
        projection: str = "pca",
        second_moment: str = "as_released",
        hidden_width: int = 64,
        n_groups: int = 4,
        n_prefix_tokens: int = 0,
        Cs: Sequence[float] = (1e-3, 1e-5, 1e-4, 1e-2, 1e-1),
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.projection = projection
        self.second_moment = second_moment
        self.hidden_width = hidden_width
        self.n_groups = n_groups
        self.n_prefix_tokens = n_prefix_tokens
        self.Cs = Cs
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on a mapping with `pooled` (N, D) and `tokens` (N, T, D), arrays or memmaps, and labels (N,)."""
        self.check_parameters()
        rows, codes = self._check_fit(X, y)
        for kind in self.consumes:
            check_lazy(rows.arrays[kind], kind)
        others = None
        if validation is not None and len(np.asarray(validation[1])):
            others = self._check_rows(validation[0], reset=False), self._validation_codes(validation[1])
        self.__dict__.pop("selection_", None)
        C = float(self.Cs[0]) if len(self.Cs) == 1 else self._select(rows, codes, others)
        if others is not None and self.refit:
            # A class that no training row has cannot be learnt from the validation rows either.
            known = np.flatnonzero(others[1] >= 0)
            rows, codes = rows.stacked(others[0].subset(known)), np.concatenate([codes, others[1][known]])
        self._fit_directions(rows)
        self.coef_, self.intercept_ = self._path(self._moments(rows), codes, [C])[0]
        return self

    def check_parameters(self) -> None:
        if self.projection not in PROJECTIONS:
            raise InputError(f"projection is {self.projection!r}: choose one of {list(PROJECTIONS)}")
        check_moment_options("cnn", self.second_moment, self.hidden_width, self.n_groups)
        n_moments = n_pairs(self.n_groups) * (self.hidden_width // self.n_groups) ** 2
        if n_moments > MAX_MOMENTS:
            raise InputError(
                f"hidden_width={self.hidden_width} in {self.n_groups} groups gives {n_moments} moments a row, and at "
                f"most {MAX_MOMENTS} can be solved for: lower hidden_width or raise n_groups"
            )
        if not len(self.Cs) or not all(0 < C < np.inf for C in self.Cs):
            raise InputError(f"Cs is {self.Cs}, expected positive numbers: give at least one")

    def _check_kinds(self, X: Any, *, reset: bool) -> RowReader:
        rows = super()._check_kinds(X, reset=reset)
        n_tokens, width = rows.arrays["tokens"].shape[1:]
        check_patches(n_tokens, self.n_prefix_tokens)
        if self.projection == "pca" and self.hidden_width > width:
            raise InputError(
                f"hidden_width is {self.hidden_width} and tokens have {width} principal directions: "
                "lower hidden_width or set head.projection=random"
            )
        return rows

    def _select(self, rows: RowReader, codes: IntArray, others: tuple[RowReader, IntArray] | None) -> float:
        """The C with the highest accuracy on the validation rows; the smaller one where two are equal."""
        on = "validation"
        if others is None:
            on, marks = HELD_OUT, hold_out(codes, self.random_state)
            kept, held = np.flatnonzero(~marks), np.flatnonzero(marks)
            if not len(held):
                return self._chose("nothing, for want of rows", [], float(self.Cs[0]))
            rows, codes, others = rows.subset(kept), codes[kept], (rows.subset(held), codes[held])
        self._fit_directions(rows)
        Cs, Z_held = sorted({float(C) for C in self.Cs}), self._moments(others[0])
        path = self._path(self._moments(rows), codes, Cs)
        scores = [float(((Z_held @ W.T + b).argmax(axis=1) == others[1]).mean()) for W, b in path]
        best = int(np.argmax(scores))
        self._chose(on, [{"C": C, "score": score} for C, score in zip(Cs, scores, strict=True)], Cs[best])
        self.coef_, self.intercept_ = path[best]
        self._keep_choice()
        return Cs[best]

    def _chose(self, on: str, searched: list[dict[str, float]], C: float) -> float:
        self.selection_: dict[str, Any] = {"on": on, "searched": searched, "chosen": {"C": C}}
        return C

    def _fit_directions(self, rows: RowReader) -> None:
        """Sets the mean of the tokens, (D,), and the directions, (D, hidden_width)."""
        width = self.widths_["tokens"]
        device, n_tokens = resolve_device(self.device), 0
        total = torch.zeros(width, dtype=torch.float64, device=device)
        squares = torch.zeros(width, width, dtype=torch.float64, device=device)
        tokens = RowReader({"tokens": rows.arrays["tokens"]})
        for part in row_chunks(tokens):
            patches = as_tensors(tokens[part], device)["tokens"][:, self.n_prefix_tokens :].reshape(-1, width).double()
            n_tokens += len(patches)
            total += patches.sum(dim=0)
            squares += patches.T @ patches
        mean = total / n_tokens
        self.token_mean_ = mean.cpu().numpy()
        rng = np.random.default_rng(self.random_state)
        if self.projection == "random":
            self.directions_ = rng.standard_normal((width, self.hidden_width)) / np.sqrt(width)
            return
        # On the CPU and with the largest entry positive: an eigenvector has no sign of its own, and two devices differ.
        leading = np.linalg.eigh((squares / n_tokens - torch.outer(mean, mean)).cpu().numpy())[1]
        leading = leading[:, -self.hidden_width :]
        leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(self.hidden_width)])
        rotation = ortho_group.rvs(self.hidden_width, random_state=rng) if self.hidden_width > 1 else np.eye(1)
        self.directions_ = np.ascontiguousarray(leading @ rotation)

    @torch.no_grad()
    def _chunk_moments(self, chunk: dict[str, Any]) -> NDArray[np.float32]:
        """Pooled feature, then the cross moments, (n, D + P d^2)."""
        batch = as_tensors(chunk, resolve_device(self.device))
        mean, directions = (
            torch.from_numpy(array).to(batch["tokens"]) for array in (self.token_mean_, self.directions_)
        )
        projected = (batch["tokens"][:, self.n_prefix_tokens :] - mean) @ directions
        groups = split_groups(projected, self.n_groups, "cnn")
        maps = normalize_columns(cross_moments(functional.layer_norm(groups, groups.shape[-1:]), self.second_moment))
        return torch.cat([batch["pooled"], maps.flatten(1)], dim=1).cpu().numpy()

    def _moments(self, rows: RowReader) -> NDArray[np.float32]:
        return np.concatenate([self._chunk_moments(rows[part]) for part in row_chunks(rows)])

    def _path(self, Z: NDArray[np.float32], codes: IntArray, Cs: list[float]) -> list[tuple[FloatArray, FloatArray]]:
        """(K, F) coefficients and (K,) intercepts for moments as they are, one pair for each of the ascending Cs."""
        features = EigenRows(Z, scaling="standard", device=resolve_device(self.device))
        solutions = solve_path(MultinomialLoss(features, codes, len(self.classes_)), Cs, tol=1e-7, max_iter=100)
        warn_unconverged(solutions, Cs)
        return [features.unrotate(solution.theta) for solution in solutions]

    def _logits(self, X: Any) -> FloatArray:
        return (self._chunk_moments(X) @ self.coef_.T + self.intercept_).astype(np.float32)
