"""CLAP: a cosine classifier that begins at the texts, each class held there by how well its text does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.lbfgs import minimise
from probe.heads.shared.text_head import TextHead, unit


class CLAP(TextHead):
    """Logits cos(f, w_k) / temperature; prototypes w_k begin at the features t_k of the texts and are held there.

    Minimises mean cross-entropy + 1/K sum_k m_k |w_k - t_k|^2, m_k the mean probability that the texts alone give to
    the class of its training rows: what the text does well already moves little. There is nothing to choose, by design:
    validation rows take no part.

    Source: Silva-Rodriguez, Hajimiri, Ben Ayed, Dolz, "A Closer Look at the Few-Shot Adaptation of Large
    Vision-Language Models", 2024, arXiv 2312.12730, with one multiplier per class. Departure: L-BFGS from the texts in
    place of 300 epochs of SGD, so that the result has no seed.

    Args:
        templates: `generic`, `cifar`, `imagenet`, or sentences of your own with `{}` for the name of the class.
        temperature: Positive; null is that of the model, and 0.01 where there is no model to ask.
        class_features: (K, D) one row per class of the dataset, of any length. A run fills it in.
        max_iter: Evaluations of the objective.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        prototypes_: (K, D) w_k.
        multipliers_: (K,) m_k.
        loss_: The objective.
    """

    prototypes_: NDArray[np.float64]

    def __init__(
        self,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        max_iter: int = 300,
        device: str = "auto",
    ):
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features
        self.max_iter = max_iter
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        if not self.max_iter >= 1:
            raise InputError(f"max_iter is {self.max_iter!r}, expected at least 1: change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), codes into `class_features`; validation rows take no part."""
        self.check_parameters()
        self._check_texts()
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        device = resolve_device(self.device)
        F = torch.from_numpy(unit(np.asarray(X[:], dtype=np.float64))).to(device)
        texts = torch.from_numpy(self._features_of_classes(X.shape[1])).to(device)
        labels, scale = torch.from_numpy(codes).to(device), 1 / (self.temperature or 0.01)
        multipliers = multipliers_of(cosine_logits(F, texts, scale), labels)

        def objective(prototypes: Tensor) -> Tensor:
            loss = functional.cross_entropy(cosine_logits(F, prototypes, scale), labels)
            return loss + penalty(prototypes, texts, multipliers)

        [found], self.loss_ = minimise(objective, [texts], self.max_iter)
        self.prototypes_, self.multipliers_ = found.cpu().numpy(), multipliers.cpu().numpy()
        self.scale_ = scale
        return self

    def _logits(self, X: Any) -> FloatArray:
        return self.scale_ * unit(np.asarray(X, dtype=np.float64)) @ unit(self.prototypes_).T


def cosine_logits(F: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """(N, K) of rows of unit length and prototypes of any."""
    return scale * F @ functional.normalize(prototypes, dim=1).T


def multipliers_of(logits: Tensor, labels: Tensor) -> Tensor:
    """(K,) mean probability of a class over its own rows."""
    of_class = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return (logits.softmax(1) * of_class).sum(0) / of_class.sum(0)


def penalty(prototypes: Tensor, texts: Tensor, multipliers: Tensor) -> Tensor:
    """Mean over classes of the squared distance from the text, times the multiplier."""
    return (multipliers * (prototypes - texts).square().sum(1)).mean()
