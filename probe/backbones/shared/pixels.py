"""Images on their way to a network: bytes as far as its device, normalised there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL import Image


class Normalisation(nn.Module):
    """(N, 3, H, W) bytes -> (bytes / 255 - mean) / std in float32, on the device where they are.

    The bits are those of torchvision's `ToTensor` and `Normalize` on the CPU: the same operations in the same order.
    Other dtypes pass as they are, since they were normalised elsewhere.

    Args:
        mean: Of each channel, on the scale from 0 to 1.
        std: Of each channel.
    """

    largest: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        # No plain number: CUDA multiplies by its reciprocal, which gives half of the 256 bytes another last bit.
        self.register_buffer("largest", torch.tensor(255, dtype=torch.float32))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            return images
        return images.float().div_(self.largest).sub_(self.mean).div_(self.std)


def to_bytes(image: Image.Image) -> Tensor:
    """The pixels of an RGB image as (3, H, W) uint8."""
    # Channel by channel, in half the time that it takes to turn the axes of all pixels.
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in image.split()]))


def split_transform(transform: Any) -> tuple[Callable[[Image.Image], Tensor], Normalisation | None]:
    """A transform that ends in torchvision's `ToTensor` and `Normalize` as one to bytes, and what is left of it.

    Any other transform comes back whole, with None.
    """
    from torchvision.transforms import Compose, Normalize, ToTensor

    steps = transform.transforms if isinstance(transform, Compose) else []
    if len(steps) < 2 or not isinstance(steps[-2], ToTensor) or not isinstance(steps[-1], Normalize):
        return transform, None
    return Compose([*steps[:-2], to_bytes]), Normalisation(steps[-1].mean, steps[-1].std)
