"""Tip-Adapter: few rows beside the texts of their classes, as a cache that votes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.text_head import TextHead, unit

BLOCK_VALUES = 2**22
"""Similarities of rows with keys at once."""
PUBLISHED = {"alpha": 1.17, "beta": 1.0}
"""With which keys are trained, as for ImageNet in the source."""


class TipAdapter(TextHead):
    """Zero-shot logits and the votes of the training rows: f.t_k / temperature + alpha sum_i exp(-beta (1 - f.f_i)).

    The sum is over the rows i of class k; rows f, keys f_i and texts t_k have unit length. alpha = 0 is `zero_shot`,
    and so is beta = 0 where classes have equally many rows; for a large beta the nearest row alone votes. alpha and
    beta are those of best accuracy on the validation rows; ties go to the lower log loss, then to the smaller alpha.
    Without validation rows each training row is judged by the others. Validation rows never become keys.

    With `train`, keys are trained at alpha 1.17 and beta 1 first (Tip-Adapter-F); without validation rows these stay.

    Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", 2022, arXiv
    2207.09519. Departures: end points are in the grid, and the last epoch is kept, not the one of best test accuracy.

    Args:
        templates: `generic`, `cifar`, `imagenet`, or sentences of your own with `{}` for the name of the class.
        temperature: Positive; null is that of the model, and 0.01 where there is no model to ask.
        class_features: (K, D) one row per class of the dataset, of any length. A run fills it in.
        alphas: To choose from, or how many, evenly between 0 and 10.
        betas: To choose from, or how many, log-spaced between 0.5 and 50.
        train: Whether the keys are trained.
        epochs, learning_rate, batch_size: Of AdamW on the cross-entropy of the training rows, falling to 0.
        random_state: Seeds the batches.
        device: Where keys are trained; `auto` is CUDA when there is one.

    Attributes:
        coef_: (K, D) texts of unit length over the temperature.
        keys_, codes_: (N, D) and (N,) the rows that vote and their class codes.
        alpha_, beta_: What was chosen.
        selection_: What was searched; absent where nothing was.
    """

    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas", "beta": "betas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas", "betas")
    coef_: FloatArray
    keys_: FloatArray
    codes_: IntArray

    def __init__(
        self,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        alphas: int | Sequence[float] = 41,
        betas: int | Sequence[float] = 21,
        train: bool = False,
        epochs: int = 20,
        learning_rate: float = 0.001,
        batch_size: int = 256,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features
        self.alphas = alphas
        self.betas = betas
        self.train = train
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        for name, values in zip(("alphas", "betas"), self._grids(), strict=True):
            if not len(values) or not (np.isfinite(values) & (values >= 0)).all():
                raise InputError(f"{name} is {getattr(self, name)!r}, expected a count or numbers from 0: change it")
        if not (self.epochs >= 1 and self.batch_size >= 1 and self.learning_rate > 0):
            raise InputError(
                f"epochs is {self.epochs!r}, batch_size {self.batch_size!r} and learning_rate {self.learning_rate!r}, "
                "expected at least 1 each and a positive number: change the parameters of the head"
            )

    def _grids(self) -> tuple[FloatArray, FloatArray]:
        alphas = np.linspace(0, 10, self.alphas) if isinstance(self.alphas, int) else np.unique(self.alphas)
        betas = np.geomspace(0.5, 50, self.betas) if isinstance(self.betas, int) else np.unique(self.betas)
        return alphas.astype(np.float64), betas.astype(np.float64)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Keeps the rows X (N, D) as keys, y codes into `class_features`; chooses alpha and beta."""
        self.check_parameters()
        self._check_texts()
        self.__dict__.pop("selection_", None)
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        rows = unit(np.asarray(X[:], dtype=np.float64))
        self.coef_ = unit(self._features_of_classes(X.shape[1])) / (self.temperature or 0.01)
        self.keys_, self.codes_ = rows, codes
        if self.train:
            self.keys_, self.losses_ = self._trained(rows, codes)
        alphas, betas = self._grids()
        self.alpha_, self.beta_ = float(alphas[len(alphas) // 2]), float(betas[len(betas) // 2])
        if validation is not None:
            held, truth = self._check_rows(validation[0], reset=False), self._validation_codes(validation[1])
            check_lazy(held, "the validation rows")
            self._choose(unit(np.asarray(held[:], dtype=np.float64)), truth, "validation")
        elif self.train:
            self.alpha_, self.beta_ = PUBLISHED["alpha"], PUBLISHED["beta"]
        else:
            self._choose(rows, codes, "leave-one-out")
        return self

    def _choose(self, rows: FloatArray, truth: IntArray, on: str) -> None:
        alphas, betas = self._grids()
        if len(alphas) * len(betas) == 1:
            return
        n_right, losses = np.zeros((2, len(betas), len(alphas)))
        for block, nearness in self._nearness(rows, without_itself=on == "leave-one-out"):
            texts, codes = torch.from_numpy(rows[block] @ self.coef_.T), torch.from_numpy(truth[block])
            known = codes >= 0
            for b, beta in enumerate(betas):
                votes = torch.from_numpy(self._votes(nearness, beta))
                for a, alpha in enumerate(alphas):
                    logits = texts + alpha * votes
                    n_right[b, a] += int((logits.argmax(1) == codes).sum())
                    losses[b, a] += float(functional.cross_entropy(logits[known], codes[known], reduction="sum"))
        pairs = [(b, a) for a in range(len(alphas)) for b in range(len(betas))]
        best = min(pairs, key=lambda pair: (-n_right[pair], losses[pair]))
        self.beta_, self.alpha_ = float(betas[best[0]]), float(alphas[best[1]])
        searched = [
            {"alpha": float(alphas[a]), "beta": float(betas[b]), "score": float(n_right[b, a] / len(truth))}
            for b, a in pairs
        ]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"alpha": self.alpha_, "beta": self.beta_}}
        self._keep_choice()

    def at(self, candidate: Mapping[str, Any]) -> Self | None:
        from sklearn.base import clone

        found = clone(self)
        found.__dict__.update(vars(self))
        found.alpha_, found.beta_ = candidate["alpha"], candidate["beta"]
        return found

    def _nearness(self, rows: FloatArray, *, without_itself: bool = False) -> Iterator[tuple[slice, FloatArray]]:
        """Cosines of rows with the keys, block by block; minus infinity of a row with itself where that is left out."""
        step = max(1, BLOCK_VALUES // len(self.keys_))
        for start in range(0, len(rows), step):
            block = slice(start, min(start + step, len(rows)))
            found = rows[block] @ self.keys_.T
            if without_itself:
                found[np.arange(len(found)), np.arange(block.start, block.stop)] = -np.inf
            yield block, found

    def _votes(self, nearness: FloatArray, beta: float) -> FloatArray:
        weights = np.exp(-beta * (1 - nearness)) if beta else np.isfinite(nearness).astype(np.float64)
        votes: FloatArray = weights @ np.eye(len(self.classes_))[self.codes_]
        return votes

    def _trained(self, rows: FloatArray, codes: IntArray) -> tuple[FloatArray, list[float]]:
        device = resolve_device(self.device)
        keys, features, texts = (torch.from_numpy(a).to(device) for a in (self.keys_, rows, rows @ self.coef_.T))
        labels = torch.from_numpy(codes).to(device)
        values = functional.one_hot(torch.from_numpy(self.codes_), len(self.classes_)).double().to(device)
        return train_keys(
            keys, values, features, texts, labels,
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate, seed=self.random_state,
        )  # fmt: skip

    def _logits(self, X: Any) -> FloatArray:
        rows = unit(np.asarray(X, dtype=np.float64))
        votes = [self._votes(nearness, self.beta_) for _, nearness in self._nearness(rows)]
        found: FloatArray = rows @ self.coef_.T + self.alpha_ * np.concatenate(votes)
        return found


def train_keys(
    keys: Tensor,
    values: Tensor,
    features: Tensor,
    texts: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> tuple[FloatArray, list[float]]:
    """Keys (M, D) after AdamW on the cross-entropy of the rows, and the loss of each step.

    Args:
        keys: As training begins.
        values: (M, K) the class of each, one-hot.
        features: (N, D) rows of unit length.
        texts: (N, K) their zero-shot logits.
        labels: (N,) their class codes.
        epochs: Passes over the rows.
        batch_size: Rows per step.
        learning_rate: At the first step; it falls along a half cosine to 0.
        seed: Of the order of the rows.
    """
    keys = keys.clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=learning_rate, eps=1e-4)
    n_steps = epochs * -(-len(labels) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = torch.from_numpy(random.permutation(len(labels))).to(keys.device)
        for batch in order.split(batch_size):
            votes = torch.exp(-PUBLISHED["beta"] * (1 - features[batch] @ keys.T)) @ values
            loss = functional.cross_entropy(texts[batch] + PUBLISHED["alpha"] * votes, labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return keys.detach().cpu().numpy(), losses
