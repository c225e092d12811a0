"""What candidates that are trained side by side go down, and by what they are judged."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from probe.heads.shared.module_head import Batch
from probe.metrics.multilabel import mean_average_precision

Score = tuple[float, float]
WORST: Score = (0.0, -math.inf)
Parts = Iterable[tuple[Tensor, Tensor]]
"""Logits (L, n, K) of L candidates, as doubles, and the codes of the same rows."""


class CrossEntropy:
    """Of one class per row, codes (n,), -1 for a class that no training row had."""

    def begin(self, epoch: int) -> None:
        """Says which epoch comes, from 0 on."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The sum over candidates of the mean over rows, so that the gradient of each is that of its own mean."""
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


class BinaryCrossEntropy(CrossEntropy):
    """Of several labels per row, codes (n, K), over those that are known; candidates are judged by mAP, then loss."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.of_rows(logits, batch["codes"]).sum() / logits.shape[1]

    def of_rows(self, logits: Tensor, codes: Tensor) -> Tensor:
        """(L, n, K), 0 where a label is unknown."""
        targets = (codes == 1).to(logits.dtype).expand_as(logits)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses * (codes >= 0)

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
