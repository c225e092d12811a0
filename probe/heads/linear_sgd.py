"""A linear classifier trained on mini-batches, many learning rates at once."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import FloatArray, Head
from probe.heads.shared.linear_sgd_solver import LinearSGDSolver
from probe.heads.shared.spherical import gradient, log_shares
from probe.heads.shared.trained_numbers import TrainedNumbers


class LinearSGD(Head, LinearSGDSolver):
    """Softmax regression by mini-batches of cross-entropy; the learning rate is chosen on validation rows.

    All learning rates see the same batches and start from the same N(0, 0.01^2) coefficients. They are slices of one
    tensor, so that a batch costs two matrix products however many there are, and each ends where it would end alone.
    A step of SGD or AdamW is proportional to its learning rate: the optimizer sees coefficients in units of it, for
    which all learning rates are 1. LARS and LAMB measure lengths, so that each learning rate has parameters of its own.

    Of numbers to predict it goes down, and is judged by, the squared error: see `LinearSGDNumbers`.

    The protocols of Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230: `sgd`), DINOv2 (Oquab et al., 2023,
    arXiv:2304.07193: `sgd`, 13 learning rates, no weight decay) and of LARS-trained probes, on features extracted once
    instead of on augmented images. LARS and LAMB are timm's; LAMB's clipping of the gradient over all parameters is
    off, since it would tie the learning rates to each other.

    Args:
        solver: `sgd`, `adamw`, `lars` or `lamb`.
        lrs: Learning rates to train, as the solver gets them.
        weight_decay: Of the coefficients; the intercepts have none.
        momentum: Of `sgd` and `lars`.
        epochs: Passes over the rows; the learning rate falls along a half cosine to 0, step by step.
        batch_size: Rows per step; the last batch of an epoch may be smaller.
        scaling: `none`; `standard`, features to mean 0 and variance 1 over the rows trained on, folded back into
            `coef_` (weight decay acts on scaled features); `l2`, rows to length 1, at prediction too.
        loss: `softmax`, cross-entropy; `z`, `spherical` or `taylor` of the spherical family, see
            `probe.heads.shared.spherical`. `z` gives no probabilities, and two classes nothing to learn.
            Steps of these with `solver=sgd` and `momentum=0` cost no more however many classes there are, see
            `probe.heads.shared.factored`.
        refit: Whether the chosen learning rate is trained again on training and validation rows.
        random_state: Seeds the start, the batches and, without validation rows, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        coefs_: (n_lrs, K, D), in the order of `lrs`, trained on the training rows.
        intercepts_: (n_lrs, K).
        scores_: (n_lrs,) validation accuracies; absent where nothing was searched.
        lr_: The chosen learning rate: best accuracy, then lower log loss, then smaller.
        coef_: (K, D).
        intercept_: (K,).
        selection_: What was searched; absent where nothing was.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "number")

    @property
    def log_probabilities(self) -> bool:  # type: ignore[override]
        """No others than those of `z` are scores alone."""
        return self.loss != "z"

    @property
    def n_outputs(self) -> int:
        return len(self.classes_)

    def for_target(self, target: str) -> AnyHead:
        return LinearSGDNumbers(**self.get_params(deep=False)) if target == "number" else self

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, IntArray]:
        X, codes = super()._check_fit(X, y)
        if self.loss == "z" and len(self.classes_) == 2:
            raise InputError(
                "loss z of two classes takes two values and has no slope, it is for 3 classes or more: set "
                "head.loss=softmax"
            )
        return X, codes

    def _both_codes(self, codes: IntArray, y: ArrayLike) -> tuple[IntArray, IntArray]:
        y_val = plain_array(y, "y").reshape(-1)
        if self.refit:
            known = self.classes_
            self.classes_ = np.union1d(known, y_val)
            codes = np.searchsorted(self.classes_, known)[codes]
        return codes, self._validation_codes(y_val)

    def _strata(self, codes: IntArray) -> IntArray:
        return codes

    def _slopes(self, outputs: Tensor, codes: Tensor) -> Tensor:
        return gradient(self.loss, outputs, codes)

    def _judge(self, X: Any, codes: IntArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracies and log losses."""
        correct, losses = np.zeros(len(self.lrs)), np.zeros(len(self.lrs))
        for rows in row_chunks(X):
            chunk, labels = np.asarray(X[rows], dtype=np.float32), codes[rows]
            known = np.flatnonzero(labels >= 0)
            for i, fitted in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
                logits = log_shares(self.loss, torch.from_numpy(self._scored(chunk, *fitted).astype(np.float64)))
                correct[i] += np.count_nonzero(logits.argmax(1).numpy() == labels)
                losses[i] -= logits.log_softmax(1).numpy()[known, labels[known]].sum()
        return correct / len(codes), losses

    def _logits(self, X: Any) -> FloatArray:
        scores = self._outputs(X)
        return scores if self.loss in ("softmax", "z") else log_shares(self.loss, torch.from_numpy(scores)).numpy()


class LinearSGDNumbers(TrainedNumbers, LinearSGDSolver):
    """The same steps down the squared error of numbers, a mean for each column in the place of logits.

    `head=linear_sgd` stands for it on numbers, with the same parameters; it has no yaml of its own. `ridge` and `ols`
    have the optimum without steps: this is for protocols that are defined by them.

    Attributes:
        coef_, intercept_: (Q, D) and (Q,), of numbers at mean 0 and variance 1.
        scores_: (n_lrs,) less the mean squared errors of these on the rows to choose on.
    """

    def check_parameters(self) -> None:
        super().check_parameters()
        if self.loss != "softmax":
            raise InputError(
                f"loss is {self.loss!r}, which is one of classes, and numbers to predict have the squared error: set "
                "head.loss=softmax"
            )

    def _both_codes(self, codes: Any, y: ArrayLike) -> tuple[Any, Any]:
        return codes, self._validation_codes(y)

    def _slopes(self, outputs: Tensor, codes: Tensor) -> Tensor:
        return 2 * (outputs - codes.T)

    def _judge(self, X: Any, codes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        squares = np.zeros(len(self.lrs))
        for rows in row_chunks(X):
            chunk = np.asarray(X[rows], dtype=np.float32)
            for i, fitted in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
                squares[i] += np.square(self._scored(chunk, *fitted) - codes[rows]).mean(axis=1).sum()
        return -squares / len(codes), squares
