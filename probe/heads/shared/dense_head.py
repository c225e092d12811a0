"""Heads of a class per pixel that are trained on the pixels of masks."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from probe.core.errors import InputError
from probe.heads.shared.dense_labels import check_masks, is_labelled, pixel_counts
from probe.heads.shared.dense_loss import pixel_loss, resized
from probe.heads.shared.dense_training import DenseTraining, Score
from probe.heads.shared.module_head import ModuleHead


class DenseHead(DenseTraining, ModuleHead):
    """Base class of the heads of classes that train on pixels, see `DenseTraining`; outputs are logits of K classes.

    The learning rate with the highest mIoU on the validation images wins, the lower cross-entropy where two are equal.
    A parameter besides: `dice`.

    Attributes:
        classes_: (K,) codes of the classes that training pixels have.
        shares_: (K,) of the training pixels.
    """

    fits: ClassVar[tuple[str, ...]] = ("mask",)
    dice: float

    def _wrong_parameters(self) -> list[str]:
        wrong = super()._wrong_parameters()
        return wrong if 0 <= self.dice <= 1 else [*wrong, f"dice is {self.dice!r}, expected a share from 0 to 1"]

    def _check_pixels(self, y: ArrayLike, n_images: int, what: str = "y") -> Any:
        return check_masks(y, n_images, what)

    def _look(self, pixels: Any) -> None:
        self.classes_, counts = pixel_counts(pixels)
        if len(self.classes_) < 2:
            found = "no class" if not len(counts) else f"one class only ({self.classes_[0]})"
            raise InputError(f"the masks that train have {found}, a head needs at least 2: give more images")
        self.shares_ = counts / counts.sum()

    def _labels(self, given: NDArray[Any]) -> NDArray[Any]:
        """Codes under `classes_`, -1 where there is no label or no such class."""
        codes = np.searchsorted(self.classes_, given).clip(max=len(self.classes_) - 1)
        known = is_labelled(given) & (self.classes_[codes] == given)
        return np.where(known, codes, -1).astype(np.int64)

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return pixel_loss(outputs, labels, self.dice)

    @torch.no_grad()
    def _score(self, module: nn.Module, X: Any, pixels: Any) -> Score:
        """Mean IoU over the classes that pixels have or are said to have, then the negative cross-entropy."""
        K, loss = len(self.classes_), 0.0
        confusion = torch.zeros(K, K, dtype=torch.int64)
        for logits, codes in self._outputs_at_pixels(module, X, pixels):
            known = codes >= 0
            cells = codes[known] * K + logits.argmax(1)[known]
            confusion += torch.bincount(cells, minlength=K * K).view(K, K).cpu()
            loss += float(nn.functional.cross_entropy(logits, codes, ignore_index=-1, reduction="sum"))
        if not math.isfinite(loss):
            return 0.0, -math.inf
        union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        iou = confusion.diagonal()[union > 0] / union[union > 0]
        return float(iou.double().mean()) if len(iou) else 0.0, -loss

    @torch.no_grad()
    def predict(self, X: Any) -> NDArray[Any]:
        """(N, H, W) class of each pixel, at the size of the masks that it was fitted on."""
        logits = torch.from_numpy(self.logits(X))
        return self.classes_[resized(logits, *self.pixels_).argmax(1).numpy()]
