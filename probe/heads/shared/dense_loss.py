"""Losses of the pixels of masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5


def dice_loss(probabilities: Tensor, onehot: Tensor) -> Tensor:
    """1 - (2 sum p t + e) / (sum p^2 + sum t^2 + e) of each class over all pixels of a batch, (K,); e = 1e-5.

    0 where the prediction is the mask, 1 where they are disjoint. Since the sums are of the batch, so is its value.

    Args:
        probabilities: (B, K, H, W), 0 at pixels without a label.
        onehot: (B, K, H, W), likewise.
    """
    both = (probabilities * onehot).sum((0, 2, 3))
    squares = probabilities.square().sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - (2 * both + SMOOTH) / (squares + SMOOTH)


def pixel_loss(logits: Tensor, codes: Tensor, dice: float) -> Tensor:
    """(1 - dice) x the mean cross-entropy of the labelled pixels + dice x the mean Dice loss of the classes.

    Args:
        logits: (B, K, H, W).
        codes: (B, H, W), -1 at pixels without a label.
        dice: From 0 to 1.
    """
    labelled = codes >= 0
    total = torch.zeros((), device=logits.device, dtype=logits.dtype)
    if dice < 1:
        summed = functional.cross_entropy(logits, codes, ignore_index=-1, reduction="sum")
        total = total + (1 - dice) * summed / labelled.sum().clamp(min=1)
    if dice > 0:
        onehot = functional.one_hot(codes.clamp(min=0), logits.shape[1]).movedim(3, 1) * labelled[:, None]
        total = total + dice * dice_loss(logits.softmax(1) * labelled[:, None], onehot.to(logits.dtype)).mean()
    return total


def resized(logits: Tensor, height: int, width: int) -> Tensor:
    """Logits (B, K, h, w) at the size of masks, bilinearly."""
    if logits.shape[2:] == (height, width):
        return logits
    return functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def silog_loss(numbers: Tensor, labels: Tensor, variance_focus: float) -> Tensor:
    """sqrt(mean g^2 - variance_focus (mean g)^2) with g = ln p - ln d over the labelled pixels of a batch.

    Source: Eigen, Puhrsch and Fergus, "Depth map prediction from a single image using a multi-scale deep network",
    2014, arXiv 1406.2283; with the root and the focus 0.85 of Lee et al., "From big to small", 2019, arXiv 1907.10326.
    At 1 one factor for all numbers changes nothing, at 0 it is the root mean squared error of logarithms.

    Args:
        numbers: (B, H, W) above 0.
        labels: (B, H, W) above 0, NaN at pixels without a label.
        variance_focus: From 0 to 1.
    """
    known = labels.isfinite()
    n = known.sum().clamp(min=1)
    # Ones in the place of what is unlabelled: a third of the time of picking out the others.
    g = numbers.where(known, 1.0).log() - labels.where(known, 1.0).log()
    # The root has no slope at 0, where nothing is left to learn.
    return (g.square().sum() / n - variance_focus * (g.sum() / n).square()).clamp(min=1e-12).sqrt()
