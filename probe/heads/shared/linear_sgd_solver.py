"""What the linear heads by mini-batches share: many learning rates at once, whatever they predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from probe.core.arrays import RowStack, RowSubset, at_epoch
from probe.core.base import IntArray
from probe.core.device import resident_rows, resolve_device
from probe.core.errors import InputError
from probe.core.magnitudes import tell_of_flat_outputs
from probe.core.terminal import epochs
from probe.heads.linalg.eigen import SCALINGS, scale_rows, to_unit_length_
from probe.heads.shared.base import AnyHead, FloatArray, Validation, check_lazy
from probe.heads.shared.factored import train_factored
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.module_solver import as_tensors
from probe.heads.shared.moments import ClassMoments
from probe.heads.shared.spherical import LOSSES

SOLVERS = ("sgd", "adamw", "lars", "lamb")
FACTORED_FROM = 4
"""Of wider outputs, in units of width + width^2 / batch size, steps in factors cost less."""


class LinearSGDSolver(AnyHead):
    """Trains every learning rate on rows and their codes; what it fits says what codes are, and judges.

    Attributes:
        coefs_, intercepts_: (n_lrs, K, D) and (n_lrs, K), in the order of `lrs`.
        scores_: (n_lrs,) on the rows to choose on.
        lr_, coef_, intercept_: The chosen learning rate, (K, D) and (K,).
    """

    draws_views: ClassVar[bool] = True
    searches: ClassVar[Mapping[str, str]] = {"lr": "lrs"}

    def __init__(
        self,
        solver: str = "sgd",
        lrs: Sequence[float] = (0.01, 0.1, 1.0),
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        epochs: int = 10,
        batch_size: int = 256,
        scaling: str = "none",
        loss: str = "softmax",
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.solver = solver
        self.lrs = lrs
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.epochs = epochs
        self.batch_size = batch_size
        self.scaling = scaling
        self.loss = loss
        self.refit = refit
        self.random_state = random_state
        self.device = device

    @property
    def n_outputs(self) -> int:
        """K."""
        raise NotImplementedError

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, Any]:
        """Checked rows and their codes."""
        raise NotImplementedError

    def _both_codes(self, codes: Any, y: ArrayLike) -> tuple[Any, Any]:
        """Codes of the training rows and of the validation rows, which may know of more."""
        raise NotImplementedError

    def _strata(self, codes: Any) -> IntArray:
        """Of the rows, for a held-out tenth."""
        raise NotImplementedError

    def _slopes(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Derivatives of the loss of each row by outputs (L, K, n)."""
        raise NotImplementedError

    def _judge(self, X: Any, codes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(L,) scores of all learning rates on rows, the larger the better, and losses that decide between equals."""
        raise NotImplementedError

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Trains every learning rate on (X, y) and chooses one on the validation rows."""
        self.check_parameters()
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        for name in ("scores_", "selection_"):
            self.__dict__.pop(name, None)
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            codes, val_codes = self._both_codes(codes, validation[1])
            return self._search(X, codes, X_val, val_codes)
        held_out = hold_out(self._strata(codes), self.random_state)
        if len(self.lrs) > 1 and held_out.any():
            train, spared = np.flatnonzero(~held_out), np.flatnonzero(held_out)
            self._search(RowSubset(X, train), codes[train], RowSubset(X, spared), codes[spared])
            self.selection_["on"] = HELD_OUT
            return self
        self.coefs_, self.intercepts_ = self._train(X, codes, self.lrs)
        self._tell_of_flat_outputs(X, codes)
        return self._keep(len(self.lrs) // 2)

    def check_parameters(self) -> None:
        wrong = []
        if self.solver not in SOLVERS:
            wrong.append(f"solver is {self.solver!r}, expected one of {', '.join(SOLVERS)}")
        if not len(self.lrs) or not all(lr > 0 for lr in self.lrs):
            wrong.append(f"lrs is {self.lrs!r}, expected positive numbers")
        if self.loss not in LOSSES:
            wrong.append(f"loss is {self.loss!r}, expected one of {', '.join(LOSSES)}")
        if self.scaling not in SCALINGS:
            wrong.append(f"scaling is {self.scaling!r}, expected one of {', '.join(SCALINGS)}")
        if not (self.epochs >= 1 and self.batch_size >= 1):
            wrong.append(f"epochs is {self.epochs!r} and batch_size {self.batch_size!r}, expected at least 1 each")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def _keep(self, best: int) -> Self:
        self.lr_ = float(self.lrs[best])
        self.coef_, self.intercept_ = self.coefs_[best], self.intercepts_[best]
        return self

    def _search(self, X: Any, codes: Any, X_val: Any, val_codes: Any) -> Self:
        self.coefs_, self.intercepts_ = self._train(X, codes, self.lrs)
        self._tell_of_flat_outputs(X, codes)
        self.scores_, losses = self._judge(X_val, val_codes)
        best = int(np.lexsort((np.asarray(self.lrs), losses, -self.scores_))[0])
        searched = [{"lr": float(lr), "score": float(score)} for lr, score in zip(self.lrs, self.scores_, strict=True)]
        self.selection_ = {"on": "validation", "searched": searched, "chosen": {"lr": float(self.lrs[best])}}
        self._keep(best)._keep_choice()
        if self.refit:
            both = np.concatenate([codes, val_codes])
            coefs, intercepts = self._train(RowStack([X, X_val]), both, [self.lr_])
            self.coef_, self.intercept_ = coefs[0], intercepts[0]
        return self

    def _tell_of_flat_outputs(self, X: Any, codes: Any) -> None:
        """Warns where no learning rate was large enough for features as small as these."""
        if self.scaling != "standard":
            tell_of_flat_outputs(
                X,
                codes if codes.ndim == 1 else None,
                (self.coefs_, self.intercepts_),
                lambda rows: scale_rows(rows, self.scaling),
                f"lrs={list(self.lrs)}",
                "head.scaling=standard, standardize=true, or another head",
            )

    def _train(self, X: Any, codes: Any, lrs: Sequence[float]) -> tuple[FloatArray, FloatArray]:
        """Coefficients (L, K, D) and intercepts (L, K), float32, one for each learning rate."""
        device, L, K, D = resolve_device(self.device), len(lrs), self.n_outputs, X.shape[1]
        start = 0.01 * torch.randn(K, D, generator=torch.Generator().manual_seed(self.random_state))
        mean, scale = self._statistics(X)
        n_steps = self.epochs * -(-len(codes) // self.batch_size)
        batches = self._batches(X, codes, mean, scale, device)
        if self._factors(K, D):
            ends = train_factored(start.to(device), batches, n_steps, self.loss, lrs, self.weight_decay)
            return self._unscaled(*ends, lrs, mean, scale)
        # Coefficients and intercepts in units of their learning rate, where one optimizer can step for all.
        together = self.solver in ("sgd", "adamw")
        units = torch.tensor(lrs if together else [1.0] * L, device=device).reshape(L, 1, 1)
        W, b = start.to(device) / units, torch.zeros(L, K, 1, device=device)
        W.grad, b.grad = torch.zeros_like(W), torch.zeros_like(b)
        move = self._move_together(W, b, units) if together else self._move_apart(W, b, lrs)
        for step, (batch, targets) in enumerate(batches):
            # Rows of a batch come last: a softmax over few classes is several times faster along the axis before.
            outputs = torch.addmm(b.view(-1, 1), W.view(L * K, D), batch.T).view(L, K, -1).mul_(units)
            residuals = self._slopes(outputs, targets)
            slope, share = W.grad.view(L * K, D), 1 / len(batch)
            torch.addmm(slope, residuals.view(L * K, -1), batch, beta=0, alpha=share, out=slope)
            torch.sum(residuals, 2, keepdim=True, out=b.grad).mul_(share)
            move(0.5 * (1 + np.cos(np.pi * step / n_steps)))
        return self._unscaled(W * units, (b * units)[..., 0], lrs, mean, scale)

    def _factors(self, n_classes: int, width: int) -> bool:
        """Whether steps that do not depend on the number of classes are to be had, and are cheaper."""
        plain = self.solver == "sgd" and not self.momentum and self.loss != "softmax"
        return plain and n_classes > FACTORED_FROM * (width + width**2 / self.batch_size)

    def _unscaled(
        self, W: Tensor, b: Tensor, lrs: Sequence[float], mean: FloatArray, scale: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Coefficients and intercepts of the features as they are."""
        if not (torch.isfinite(W).all() and torch.isfinite(b).all()):
            raise InputError(f"training diverged with the learning rates {list(lrs)}: leave out the largest ones")
        coefs = W.cpu().numpy() / scale
        return coefs, b.cpu().numpy() - coefs @ mean

    def _statistics(self, X: Any) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the features, (D,) each, by which training sees them; 0 and 1 if unscaled."""
        width = X.shape[1]
        mean, scale = np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32)
        if self.scaling != "standard":
            return mean, scale
        moments = ClassMoments(1, width, second="diagonal", device=self.device)
        moments.update(X, np.zeros(len(X), dtype=np.int64))
        variance = moments.total() / moments.n_rows
        return moments.mean.astype(np.float32), np.sqrt(np.where(variance > 0, variance, 1)).astype(np.float32)

    def _batches(
        self, X: Any, codes: Any, mean: FloatArray, scale: FloatArray, device: str
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Scaled features (B, D) and codes of each step, on the device."""
        random, n = np.random.default_rng(self.random_state), len(codes)
        resident = resident_rows({"features": X, "codes": codes}, device)
        shift, spread = torch.from_numpy(mean).to(device), torch.from_numpy(scale).to(device)
        for epoch in epochs(self.epochs):
            seen, order = at_epoch(X, epoch), random.permutation(n)
            for start in range(0, n, self.batch_size):
                rows = np.sort(order[start : start + self.batch_size])
                batch = resident[rows] if resident else {"features": seen[rows], "codes": codes[rows]}
                tensors = as_tensors(batch, device)
                features = tensors["features"]
                if self.scaling == "l2":
                    features = to_unit_length_(features)
                elif self.scaling == "standard":
                    features = (features - shift) / spread
                yield features, tensors["codes"]

    def _move_together(self, W: Tensor, b: Tensor, units: Tensor) -> Callable[[float], None]:
        """A function that takes a step from the gradients of W and b, at a share of each learning rate."""
        optimizer = (
            torch.optim.SGD([W, b], momentum=self.momentum, fused=True)
            if self.solver == "sgd"
            else torch.optim.AdamW([W, b], weight_decay=0.0, fused=True)
        )
        decay = self.weight_decay * units

        def move(share: float) -> None:
            # SGD decays by the gradient of a penalty, AdamW directly.
            if self.weight_decay and self.solver == "sgd":
                W.grad.addcmul_(W, decay)  # type: ignore[union-attr]
            elif self.weight_decay:
                W.mul_(1 - share * decay)
            for group in optimizer.param_groups:
                group["lr"] = share
            optimizer.step()

        return move

    def _move_apart(self, W: Tensor, b: Tensor, lrs: Sequence[float]) -> Callable[[float], None]:
        """The same by groups: one per learning rate for slices of W, then for slices of b, which share their memory."""
        from timm.optim import Lamb, Lars

        groups = []
        for whole, decay in ((W, self.weight_decay), (b, 0.0)):
            for i, lr in enumerate(lrs):
                part = torch.nn.Parameter(whole[i])
                part.grad = whole.grad[i]  # type: ignore[index]
                groups.append({"params": [part], "lr": lr, "weight_decay": decay})
        optimizer = Lars(groups, momentum=self.momentum) if self.solver == "lars" else Lamb(groups, max_grad_norm=None)

        def move(share: float) -> None:
            for group, lr in zip(optimizer.param_groups, [*lrs, *lrs], strict=True):
                group["lr"] = share * lr
            optimizer.step()

        return move

    def _scored(self, X: Any, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        return scale_rows(X, self.scaling) @ coef.T + intercept

    def _outputs(self, X: Any) -> FloatArray:
        """(N, K) of a chunk of rows."""
        # Doubles in, doubles out: a row's outputs then do not depend on the rows beside it.
        return self._scored(np.asarray(X, dtype=np.promote_types(X.dtype, np.float32)), self.coef_, self.intercept_)
