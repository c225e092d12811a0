"""Kernel ridge regression: every penalty from one eigendecomposition, exact or through landmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from probe.core.arrays import RowStack, RowSubset
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.core.memory import available_bytes
from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import FloatArray, Head, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.kernel_path import KernelPath
from probe.heads.shared.ridge_numbers import penalties

BLOCK_VALUES = 2**23
"""Entries of the kernel between new rows and those that are kept, at once."""
MATRICES = 5
"""Square matrices that a fit holds: the kernel, centred, its eigenvectors, and what LAPACK works in."""

Part = tuple[Any, Any]
"""Rows, and their class codes or numbers."""


class KernelSolver(AnyHead):
    """Base class: a subclass names its `axis`, the parameter that lists its values, and gives `_kernel`.

    What it fits says how labels become `_targets`, and how scores are judged.

    Attributes:
        rows_: (m, D) the rows that are kept: those of training, or landmarks among them.
        coef_, intercept_: (m, K) and (K,): scores are k(x, rows_) coef_ + intercept_.
    """

    axis: ClassVar[str]
    centred: ClassVar[bool] = True
    few_validation_rows: ClassVar[int] = 200
    alphas: int | Sequence[float]
    max_exact: int
    n_landmarks: int
    refit: bool
    random_state: int
    device: str
    rows_: NDArray[np.float64]
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    alpha_: float

    def _kernel(self, left: Tensor, right: Tensor, value: Any, *, scored: bool = False) -> Tensor:
        """(n, m); where it is `scored`, a positive factor for each left row is free."""
        raise NotImplementedError

    def _measure(self, rows: NDArray[np.float64]) -> None:
        """Takes what the kernel has to know of the training rows, of a sample of them."""

    def _check_parts(self, X: Any, y: ArrayLike, validation: Validation | None) -> list[Part]:
        """Checked rows and labels of the training rows, then of the validation rows if there are any."""
        raise NotImplementedError

    def _strata(self, y: Any) -> IntArray:
        """What a tenth of the rows is held out by."""
        raise NotImplementedError

    def _targets(self, y: Any, like: Tensor) -> Tensor:
        """(n, K) what scores are regressed on."""
        raise NotImplementedError

    def _agree(self, scores: Tensor, Y: Tensor, unit: Tensor) -> Tensor:
        """(P,) sum over rows of how good scores (n, P, K) are; `unit` (K,) is the variance of the targets."""
        raise NotImplementedError

    def check_parameters(self) -> None:
        penalties(self.alphas)
        sizes = self.max_exact, self.n_landmarks
        if not all(int(size) == size and size >= 1 for size in sizes):
            raise InputError(
                f"max_exact is {sizes[0]!r} and n_landmarks {sizes[1]!r}, expected whole numbers from 1: change the "
                "parameters of the head"
            )

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits every candidate on (X, y), and chooses on the validation rows."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        parts = self._check_parts(X, y, validation)
        alphas = penalties(self.alphas)
        n_outputs = self._targets(parts[0][1][:1], torch.zeros(0, dtype=torch.float64)).shape[1]
        self._check_memory(sum(len(codes) for _, codes in parts), parts[0][0].shape[1] + len(alphas) * n_outputs)
        for rows, _ in parts:
            check_lazy(rows)
        values = list(dict.fromkeys(getattr(self, f"{self.axis}s")))
        self._measure(_sample(parts[0][0], 1000, self.random_state))
        candidates = [(value, float(alpha)) for value in values for alpha in alphas]
        best = candidates[(len(candidates) - 1) // 2]
        train, judged, on = parts[0], parts[1] if len(parts) > 1 else None, "validation"
        if judged is None and len(candidates) > 1:
            held, on = hold_out(self._strata(train[1]), self.random_state), HELD_OUT
            train, judged = ((RowSubset(parts[0][0], np.flatnonzero(m)), train[1][m]) for m in (~held, held))
        if judged is None or not len(judged[1]):
            return self._keep(parts, *best)
        self._choose(train, judged, values, alphas, on)
        if len(parts) > 1:
            self._keep_choice()
        if len(parts) == 1 or self.refit:
            self._keep(parts, getattr(self, f"{self.axis}_"), self.alpha_)
        return self

    def _check_memory(self, n_rows: int, width: int) -> None:
        """Whether the kernel fits, with `width` numbers a row: features, and coefficients of all penalties."""
        exact = n_rows <= self.max_exact
        kept = n_rows if exact else min(self.n_landmarks, n_rows)
        needed, device = 8 * (MATRICES * kept**2 + kept * width + 2 * BLOCK_VALUES), resolve_device(self.device)
        available = available_bytes(device)
        if needed <= available:
            return
        room = max(available / 8 - 2 * BLOCK_VALUES, 0)
        fitting = max(1.0, ((width**2 + 4 * MATRICES * room) ** 0.5 - width) / (2 * MATRICES))
        what, remedy = f"{kept} landmarks", f"set head.n_landmarks to {int(fitting)} or less"
        if exact:
            what, remedy = f"{kept} rows", f"set head.max_exact below {n_rows}"
        raise InputError(
            f"the kernel between {what} takes {needed / 1e9:.1f} GB and {device} has {available / 1e9:.1f} GB free: "
            f"{remedy}"
        )

    def _choose(self, train: Part, judged: Part, values: Sequence[Any], alphas: FloatArray, on: str) -> None:
        """Takes the best candidate, by its score and then by squared error; sets `selection_`."""
        searched: list[dict[str, Any]] = []
        errors: list[float] = []
        best = 0
        spread = self._targets(train[1], torch.zeros(0, dtype=torch.float64)).var(0, correction=0)
        unit = torch.where(spread > 0, spread, 1.0).to(resolve_device(self.device))
        for value in values:
            rows, path = self._path([train], value)
            A, b = path.at(alphas)
            agreed, squares = np.zeros(len(alphas)), np.zeros(len(alphas))
            for kernel, Y in self._blocks([judged], rows, value, scored=True):
                scores = (kernel @ A.flatten(1)).unflatten(1, b.shape) + b
                agreed += self._agree(scores, Y, unit).cpu().numpy()
                squares += (scores - Y[:, None]).square().sum((0, 2)).cpu().numpy()
            score = agreed / len(judged[1])
            searched += [
                {self.axis: value, "alpha": float(alpha), "score": float(one)}
                for alpha, one in zip(alphas, score, strict=True)
            ]
            errors += squares.tolist()
            first = len(errors) - len(alphas)
            best = min(best, *range(first, len(errors)), key=lambda i: (-searched[i]["score"], errors[i]))
            if best >= first:
                self._take(rows, A[:, best - first], b[best - first], value, float(alphas[best - first]))
        chosen = {name: searched[best][name] for name in (self.axis, "alpha")}
        self.selection_ = {"on": on, "searched": searched, "chosen": chosen}

    def _keep(self, parts: Sequence[Part], value: Any, alpha: float) -> Self:
        rows, path = self._path(parts, value)
        A, b = path.at(np.array([alpha]))
        return self._take(rows, A[:, 0], b[0], value, alpha)

    def _take(self, rows: Tensor, A: Tensor, b: Tensor, value: Any, alpha: float) -> Self:
        self.rows_, self.coef_, self.intercept_ = (tensor.cpu().numpy() for tensor in (rows, A, b))
        setattr(self, f"{self.axis}_", value)
        self.alpha_ = alpha
        return self

    def _path(self, parts: Sequence[Part], value: Any) -> tuple[Tensor, KernelPath]:
        """The rows that are kept, and all solutions."""
        every = parts[0][0] if len(parts) == 1 else RowStack([X for X, _ in parts])
        n = sum(len(codes) for _, codes in parts)
        device = resolve_device(self.device)
        if n <= self.max_exact:
            rows = torch.from_numpy(_doubles(every[:])).to(device)
            Y = self._targets(np.concatenate([codes for _, codes in parts]), rows)
            return rows, KernelPath.exact(self._kernel(rows, rows, value), Y, centred=self.centred)
        rows = torch.from_numpy(_sample(every, self.n_landmarks, self.random_state)).to(device)
        blocks = self._blocks(parts, rows, value)
        return rows, KernelPath.through(self._kernel(rows, rows, value), blocks, centred=self.centred)

    def _blocks(
        self, parts: Sequence[Part], rows: Tensor, value: Any, *, scored: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The kernel between rows of the parts and those that are kept, and their targets, block by block."""
        step = max(1, BLOCK_VALUES // len(rows))
        for X, codes in parts:
            for start in range(0, len(codes), step):
                block = slice(start, min(start + step, len(codes)))
                left = torch.from_numpy(_doubles(X[block])).to(rows.device)
                yield self._kernel(left, rows, value, scored=scored), self._targets(codes[block], rows)

    def _scores(self, X: Any) -> FloatArray:
        device = resolve_device(self.device)
        rows, A, b = (torch.from_numpy(a).to(device) for a in (self.rows_, self.coef_, self.intercept_))
        value, step = getattr(self, f"{self.axis}_"), max(1, BLOCK_VALUES // len(rows))
        found = []
        for start in range(0, len(X), step):
            left = torch.from_numpy(_doubles(X[start : start + step])).to(device)
            found.append((self._kernel(left, rows, value, scored=True) @ A + b).cpu().numpy())
        return np.concatenate(found)


class KernelHead(Head, KernelSolver):
    """On classes: +1 for that of a row and -1 for the others, judged by accuracy."""

    log_probabilities = False

    def _strata(self, y: Any) -> IntArray:
        codes: IntArray = y
        return codes

    def _targets(self, y: Any, like: Tensor) -> Tensor:
        Y = torch.full((len(y), len(self.classes_)), -1.0, dtype=like.dtype, device=like.device)
        return Y.scatter_(1, torch.from_numpy(y).to(like.device)[:, None], 1.0)

    def _agree(self, scores: Tensor, Y: Tensor, unit: Tensor) -> Tensor:
        return (scores.argmax(2) == Y.argmax(1)[:, None]).sum(0)

    def _logits(self, X: Any) -> FloatArray:
        return self._scores(X)


def _doubles(rows: Any) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def _sample(X: Any, n: int, seed: int) -> NDArray[np.float64]:
    """At most so many of the rows, drawn uniformly and in their order."""
    if len(X) <= n:
        return _doubles(X[:])
    return _doubles(X[np.sort(np.random.default_rng(seed).choice(len(X), n, replace=False))])
