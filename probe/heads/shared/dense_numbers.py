"""Heads of a number per pixel that are trained on the pixels of maps."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from probe.heads.shared.base import FloatArray
from probe.heads.shared.dense_labels import check_maps
from probe.heads.shared.dense_loss import resized
from probe.heads.shared.dense_training import DenseTraining, Score

WORST = -float(np.finfo(np.float32).max)
"""Score of what diverged: finite, as a record holds it."""


class DenseNumbers(DenseTraining):
    """Base class of the heads of numbers that train on pixels, see `DenseTraining`; the module gives one channel.

    The learning rate with the lowest RMSE on the validation images wins, averaged over the images.

    Attributes:
        least_, most_: Range of the numbers that it says.
    """

    fits: ClassVar[tuple[str, ...]] = ("number_map",)
    least_: float
    most_: float

    @property
    def n_outputs(self) -> int:
        return 1

    def _check_pixels(self, y: ArrayLike, n_images: int, what: str = "y") -> Any:
        return check_maps(y, n_images, what)

    def _labels(self, given: NDArray[Any]) -> NDArray[Any]:
        """The numbers, NaN where there is no label."""
        return given.astype(np.float32)

    @torch.no_grad()
    def _score(self, module: nn.Module, X: Any, pixels: Any) -> Score:
        """The negative mean over images of the root mean squared error."""
        total, n_images = 0.0, 0
        for outputs, labels in self._outputs_at_pixels(module, X, pixels):
            known = labels.isfinite()
            # What is unlabelled is left out by its place: NaN times 0 is none.
            squares = torch.where(known, (outputs[:, 0].clamp(self.least_, self.most_) - labels).square(), 0.0)
            n_known = known.sum((1, 2))
            there = n_known > 0
            total += float((squares.sum((1, 2)) / n_known.clamp(min=1)).sqrt()[there].sum())
            n_images += int(there.sum())
        return (-total / max(n_images, 1) if math.isfinite(total) else WORST), 0.0

    def number_maps(self, X: Any) -> FloatArray:
        """(N, h', w') numbers on the grid of the module, for maps X (N, C, h, w)."""
        return self._in_chunks(X, lambda chunk: self._outputs(chunk)[:, 0]).clip(self.least_, self.most_)

    @torch.no_grad()
    def predict(self, X: Any) -> FloatArray:
        """(N, H, W) number of each pixel, at the size of the maps that it was fitted on."""
        numbers: Tensor = torch.from_numpy(self.number_maps(X))[:, None]
        return resized(numbers, *self.pixels_)[:, 0].numpy()
