"""LP++: a linear probe that begins at, and is drawn back to, a blend of class means and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.lbfgs import minimise
from probe.heads.shared.text_head import TextHead, unit

Weights = tuple[Tensor, Tensor, Tensor]
LEAST_SPREAD = 0.01
"""Of the probability of a class over rows, times the number of classes: rows that are right beyond doubt change it."""


class LPPlusPlus(TextHead):
    """Logits w_k.f + b_k + alpha_k t_k.f, rows f and texts t_k of unit length; W, b and alpha (K,) are fitted.

    Minimises mean cross-entropy + strength / 2 (|W - W0|^2 + |alpha - alpha0|^2), where W0 are the sums of the rows of
    each class and alpha0 is 250 times the mean over classes of the mean cosine of a class's rows with its text. The
    problem is convex; a path of strengths is solved by L-BFGS, each from the one before, and the strength is that of
    best accuracy on the validation rows; ties go to the lower log loss, then to the larger strength. Without
    validation rows a tenth stands in for them, and where no class has a row to spare the middle strength is taken.
    Validation rows are chosen on and not trained on.

    Source: Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", 2024, arXiv 2404.02285.
    Departures: the pull towards the beginning in place of a number of steps, for `strengths=[0]` L-BFGS in place of
    these; b begins at 0; classes may have different numbers of rows.

    Args:
        templates: `generic`, `cifar`, `imagenet`, or sentences of your own with `{}` for the name of the class.
        temperature: Has no part in it: alpha takes its place.
        class_features: (K, D) one row per class of the dataset, of any length. A run fills it in.
        strengths: Of the pull, to choose from.
        max_iter: Evaluations of the objective per strength.
        random_state: Seeds the choice of validation rows where none are given.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        coef_, intercept_: (K, D) and (K,) of rows of unit length, alpha_k t_k included.
        alpha_: (K,).
        strength_: What was chosen.
        losses_: (n_strengths,) mean cross-entropies of the training rows, strongest pull first.
        selection_: What was searched; absent where nothing was.
    """

    recipe: ClassVar[str] = "2"
    searches: ClassVar[Mapping[str, str]] = {"strength": "strengths"}
    unordered: ClassVar[tuple[str, ...]] = ("strengths",)
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(
        self,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        strengths: Sequence[float] = (0.1, 0.01, 0.001, 0.0001),
        max_iter: int = 300,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features
        self.strengths = strengths
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        if not len(self.strengths) or not all(0 <= strength < np.inf for strength in self.strengths):
            raise InputError(f"strengths is {self.strengths!r}, expected numbers from 0: change the head's strengths")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), codes into `class_features`, and chooses the strength."""
        self.check_parameters()
        self._check_texts()
        self.__dict__.pop("selection_", None)
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        rows = unit(np.asarray(X[:], dtype=np.float64))
        texts = unit(self._features_of_classes(X.shape[1]))
        strengths = sorted({float(strength) for strength in self.strengths}, reverse=True)
        if validation is not None:
            held = self._check_rows(validation[0], reset=False)
            check_lazy(held, "the validation rows")
            judged = unit(np.asarray(held[:], dtype=np.float64)), self._validation_codes(validation[1])
            best = self._choose(self._path(rows, codes, texts, strengths), strengths, texts, *judged, "validation")
            self._keep_choice()
            return best
        spared = hold_out(codes, self.random_state)
        middle = strengths[len(strengths) // 2]
        if len(strengths) > 1 and spared.any():
            path = self._path(rows[~spared], codes[~spared], texts, strengths)
            middle = self._choose(path, strengths, texts, rows[spared], codes[spared], HELD_OUT).strength_
        [weights] = self._path(rows, codes, texts, [middle])
        return self._keep(weights, texts, middle)

    def _path(self, rows: FloatArray, codes: IntArray, texts: FloatArray, strengths: Sequence[float]) -> list[Weights]:
        device = resolve_device(self.device)
        every, T = (torch.from_numpy(array).to(device) for array in (rows, texts))
        labels = torch.from_numpy(codes).to(device)
        F, basis = in_eigenbasis(every)
        T = T @ basis
        start = beginning(F, labels, T)
        weights, path, self.losses_ = start, [], []
        for strength in strengths:
            scales = curvatures(F, T, weights, strength)
            origin = weights

            def objective(
                *steps: Tensor, strength: float = strength, origin: Weights = origin, scales: Weights = scales
            ) -> tuple[Tensor, list[Tensor]]:
                weights = moved(origin, steps, scales)
                value, slopes = pulled(F, labels, T, weights, start, strength)
                return value, [slope * scale for slope, scale in zip(slopes, scales, strict=True)]

            steps = minimise(objective, [torch.zeros_like(part) for part in origin], self.max_iter)[0]
            weights = moved(origin, steps, scales)
            path.append((weights[0] @ basis.T, *weights[1:]))
            self.losses_.append(cross_entropy(F, labels, T, weights).item())
        return path

    def _choose(
        self,
        path: Sequence[Weights],
        strengths: Sequence[float],
        texts: FloatArray,
        rows: FloatArray,
        truth: IntArray,
        on: str,
    ) -> Self:
        known, found = truth >= 0, []
        for weights, strength in zip(path, strengths, strict=True):
            logits = torch.from_numpy(self._keep(weights, texts, strength)._logits(rows))
            right = float((logits.argmax(1).numpy() == truth).mean())
            loss = float(functional.cross_entropy(logits[known], torch.from_numpy(truth[known]), reduction="sum"))
            found.append((right, -loss))
        best = max(range(len(found)), key=lambda i: found[i])
        if len(strengths) > 1:
            searched = [{"strength": s, "score": score[0]} for s, score in zip(strengths, found, strict=True)]
            self.selection_ = {"on": on, "searched": searched, "chosen": {"strength": strengths[best]}}
        return self._keep(path[best], texts, strengths[best])

    def _keep(self, weights: Weights, texts: FloatArray, strength: float) -> Self:
        W, b, alpha = (tensor.cpu().numpy() for tensor in weights)
        self.coef_, self.intercept_, self.alpha_, self.strength_ = W + alpha[:, None] * texts, b, alpha, strength
        return self

    def _logits(self, X: Any) -> FloatArray:
        return unit(np.asarray(X, dtype=np.float64)) @ self.coef_.T + self.intercept_


def beginning(F: Tensor, labels: Tensor, T: Tensor) -> Weights:
    """W0 (K, D), b0 = 0 and alpha0 (K,), all of its entries the same."""
    of_class = functional.one_hot(labels, len(T)).to(F.dtype).T
    cosines = ((of_class @ F) * T).sum(1) / of_class.sum(1)
    return (
        of_class @ F,
        torch.zeros_like(F[0, :1]).expand(len(T)).clone(),
        (250 * cosines.mean()).expand(len(T)).clone(),
    )


def cross_entropy(F: Tensor, labels: Tensor, T: Tensor, weights: Weights) -> Tensor:
    """Mean over rows (N, D) of the cross-entropy of the blended logits."""
    W, b, alpha = weights
    return functional.cross_entropy(F @ (W + alpha[:, None] * T).T + b, labels)


@torch.no_grad()
def pulled(
    F: Tensor, labels: Tensor, T: Tensor, weights: Weights, start: Weights, strength: float
) -> tuple[Tensor, Weights]:
    """Cross-entropy with the pull towards the start, and its gradients by W, b and alpha."""
    (W, b, alpha), rows = weights, torch.arange(len(F), device=F.device)
    logs = torch.addmm(b, F, torch.addcmul(W, alpha[:, None], T).T).log_softmax(1)
    loss = -logs[rows, labels].mean()
    residuals = logs.exp_()
    residuals[rows, labels] -= 1
    residuals /= len(F)
    slope, off, off_alpha = residuals.T @ F, W - start[0], alpha - start[2]
    pull = off.square().sum() + off_alpha.square().sum()
    of_alpha = (slope * T).sum(1).add_(off_alpha, alpha=strength)
    return loss + strength / 2 * pull, (slope.add_(off, alpha=strength), residuals.sum(0), of_alpha)


def in_eigenbasis(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, R) in an orthonormal basis (D, R) of what they span, along which they are uncorrelated.

    Weights that are drawn back to a sum of rows are sums of rows, and no basis changes a length: the problem is the
    same, of fewer numbers where rows are few.
    """
    span = torch.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else None
    inside = rows if span is None else rows @ span
    turned = torch.linalg.eigh(inside.T @ inside)[1]
    return inside @ turned, turned if span is None else span @ turned


def curvatures(F: Tensor, T: Tensor, weights: Weights, strength: float) -> Weights:
    """Steps in W, b and alpha along which the objective curves about alike: one over the roots of its curvatures.

    Of each class and direction by itself, with rows and probabilities taken as independent.
    """
    W, b, alpha = weights
    p = (F @ (W + alpha[:, None] * T).T + b).softmax(1)
    spread = (p * (1 - p)).mean(0)
    spread = spread.clamp(min=LEAST_SPREAD / len(spread))[:, None]
    variances = F.square().mean(0)
    floor = 1e-6 * variances.max()
    of_alpha = (spread * variances * T.square()).sum(1)
    parts = spread * variances.clamp(min=floor) + strength, spread[:, 0], of_alpha.clamp(min=floor) + strength
    return parts[0].rsqrt(), parts[1].rsqrt(), parts[2].rsqrt()


def moved(weights: Weights, steps: Sequence[Tensor], scales: Weights) -> Weights:
    """The weights behind steps in units of the scales."""
    W, b, alpha = (part + scale * step for part, step, scale in zip(weights, steps, scales, strict=True))
    return W, b, alpha
