"""What candidates that are trained side by side go down, and by what they are judged."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from probe.heads.shared.module_solver import Batch
from probe.metrics.multilabel import mean_average_precision

Score = tuple[float, float]
WORST: Score = (0.0, -math.inf)
WORST_OF_NUMBERS: Score = (-np.finfo(np.float32).max.item(), -math.inf)
"""A finite score, which a record can hold."""
Parts = Iterable[tuple[Tensor, Tensor]]
"""Logits (L, n, K), or means, of L candidates, as doubles, and the codes of the same rows."""


class Objective:
    """A loss, and what tells which candidate is better."""

    def begin(self, epoch: int) -> None:
        """Says which epoch comes, from 0 on."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The sum over candidates of the mean over rows, so that the gradient of each is that of its own mean."""
        raise NotImplementedError

    def scores(self, parts: Parts) -> list[Score]:
        """Of each candidate how good it is on rows, the larger the better, and what decides between equal ones."""
        raise NotImplementedError

    def losses(self, logits: Tensor, codes: Tensor) -> NDArray[np.float64]:
        """(L, n) by which candidates are compared row by row."""
        raise NotImplementedError

    def ties(self, logits: Tensor, codes: Tensor) -> NDArray[np.float64]:
        """(L, n) what decides, row by row, between candidates whose `losses` are the same; zeros: nothing does."""
        return np.zeros((len(logits), len(codes)))


class CrossEntropy(Objective):
    """Of one class per row, codes (n,), -1 for a class that no training row had."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        codes = batch["codes"].expand(len(logits), -1)
        return functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="sum") / codes.shape[1]

    def scores(self, parts: Parts) -> list[Score]:
        """Of each candidate, accuracy and negative log-loss on rows; the worst where a logit is not finite."""
        n_rows, n_right, losses = 0, np.zeros(1), np.zeros(1)
        for logits, codes in parts:
            known = codes >= 0
            n_rows += len(codes)
            n_right = n_right + (logits.argmax(2) == codes).sum(1).cpu().numpy()
            targets = codes[known].expand(len(logits), -1)[..., None]
            of_class = logits[:, known].log_softmax(2).gather(2, targets)
            # Also not a number where a logit of a row of no known class is none.
            losses = losses - (of_class.sum((1, 2)) + 0 * logits.sum((1, 2))).cpu().numpy()
        return [
            (float(right / n_rows), -float(loss)) if np.isfinite(loss) else WORST
            for right, loss in zip(n_right, losses, strict=True)
        ]

    def losses(self, logits: Tensor, codes: Tensor) -> NDArray[np.float64]:
        """1 where a row is wrong, or has a logit that is not finite."""
        right = (logits.argmax(2) == codes) & logits.isfinite().all(2)
        return (~right).double().cpu().numpy()

    def ties(self, logits: Tensor, codes: Tensor) -> NDArray[np.float64]:
        """The log-loss of a row; 0 of a class that no training row had, as `scores` counts it."""
        targets = codes.clamp(min=0).expand(len(logits), -1)[..., None]
        of_class = logits.log_softmax(2).gather(2, targets)[..., 0]
        return torch.where(codes >= 0, -of_class, 0.0).cpu().numpy()


class BinaryCrossEntropy(CrossEntropy):
    """Of several labels per row, codes (n, K), over those that are known; candidates are judged by mAP, then loss."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.of_rows(logits, batch["codes"]).sum() / logits.shape[1]

    def of_rows(self, logits: Tensor, codes: Tensor) -> Tensor:
        """(L, n, K), 0 where a label is unknown."""
        targets = (codes == 1).to(logits.dtype).expand_as(logits)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses * (codes >= 0)

    def losses(self, logits: Tensor, codes: Tensor) -> NDArray[np.float64]:
        """The mean loss over the labels of a row."""
        most = -WORST_OF_NUMBERS[0]
        return self.of_rows(logits, codes).mean(2).double().nan_to_num(nan=most, posinf=most).cpu().numpy()

    ties = Objective.ties

    def scores(self, parts: Parts) -> list[Score]:
        every = [(logits, codes) for logits, codes in parts]
        logits, codes = torch.cat([logits for logits, _ in every], 1), torch.cat([codes for _, codes in every])
        losses = self.of_rows(logits, codes).mean((1, 2)).cpu().numpy()
        targets, found = codes.cpu().numpy(), logits.cpu().numpy()
        any_there = bool((targets == 1).any())
        return [
            (mean_average_precision(one, targets)[0] if any_there else 0.0, -float(loss))
            if np.isfinite(one).all()
            else WORST
            for one, loss in zip(found, losses, strict=True)
        ]


class SquaredError(Objective):
    """Of numbers, codes (n, Q), mean over columns; candidates are judged by it, the smaller the better."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return (logits - batch["codes"]).square().sum() / batch["codes"].numel()

    def scores(self, parts: Parts) -> list[Score]:
        n_rows, squares = 0, np.zeros(1)
        for logits, codes in parts:
            n_rows += len(codes)
            squares = squares + self._errors(logits, codes).sum(1).cpu().numpy()
        return [(-float(error), 0.0) if np.isfinite(error) else WORST_OF_NUMBERS for error in squares / n_rows]

    def losses(self, logits: Tensor, codes: Tensor) -> NDArray[np.float64]:
        """The squared error of each row."""
        most = -WORST_OF_NUMBERS[0]
        return self._errors(logits, codes).nan_to_num(nan=most, posinf=most).cpu().numpy()

    @staticmethod
    def _errors(logits: Tensor, codes: Tensor) -> Tensor:
        return (logits.double() - codes).square().mean(2)
