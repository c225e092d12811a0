"""A linear classifier of the places of a map, trained on the pixels of masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from probe.heads.shared.dense_head import DenseHead
from probe.heads.shared.dense_training import PlaceWeights, Standardised
from probe.heads.shared.module_solver import Batch


class DenseLinear(DenseHead):
    """Batch normalisation and a 1 x 1 convolution, whose logits are interpolated to the pixels, where the loss is.

    The linear head of DINOv2's evaluation on segmentation (Oquab et al., "DINOv2: Learning Robust Visual Features
    without Supervision", 2023, arXiv 2304.07193). A 1 x 1 convolution and bilinear interpolation commute, so that K
    channels are interpolated in place of C. Departures: features are normalised by their statistics over all training
    places, not by those of each batch (the weights of the normalisation are then those of the convolution); the bias
    starts at the log shares of the classes, which small learning rates never reach; beside the cross-entropy there may
    be a Dice loss, as in SegFace (Narayan et al., 2024, arXiv 2412.08647), which raises rare classes. On 1 x 1 maps
    with `prior=False` it is `linear_sgd` with `solver=adamw scaling=standard`.

    Args:
        lrs: Learning rates of AdamW, trained side by side; each falls along a half cosine to 0.
        epochs: Passes over the images.
        batch_size: Images per step; the memory of a step is that of the logits of so many images at their pixels.
        weight_decay: Of the coefficients.
        dice: Share of the Dice loss, the rest is cross-entropy.
        prior: Whether the bias starts at the log shares of the classes, else at 0.
        refit: Whether the chosen learning rate is trained again on training and validation images.
        random_state: Seeds the start, the batches and, without validation images, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.
    """

    def __init__(
        self,
        lrs: Sequence[float] = (0.001, 0.003, 0.01, 0.03),
        epochs: int = 12,
        batch_size: int = 50,
        weight_decay: float = 0.0001,
        dice: float = 0.0,
        prior: bool = True,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.lrs = lrs
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.dice = dice
        self.prior = prior
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def _module(self) -> nn.Module:
        bias = np.log(self.shares_) if self.prior else np.zeros(len(self.classes_))
        return _Linear(Standardised(self.mean_, self.scale_), torch.as_tensor(bias, dtype=torch.float32))


class _Linear(PlaceWeights):
    def forward(self, batch: Batch) -> Tensor:
        maps = self.norm(batch["map"])
        flat = self.weight @ maps.flatten(2) + self.bias[:, None]
        return flat.unflatten(2, maps.shape[2:])
