"""Vectors as bytes, each with a scale of its own: x ~ scale q, with q in -127..127 and scale = max |x| / 127.

A vector of D numbers is D bytes and four more that hold the scale in float32; NaN there marks one that is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

NAME = "int8"
LARGEST = 127
SCALE = np.dtype("<f4")


def pack(X: Tensor) -> Tensor:
    """(..., D) as bytes (..., D + 4): a function of each vector alone; a vector that holds NaN becomes one of NaN."""
    import torch

    x = X.float()
    scale = x.abs().amax(-1, keepdim=True) / LARGEST
    q = (x / torch.where(scale > 0, scale, 1)).round().clamp(-LARGEST, LARGEST).nan_to_num()
    return torch.cat([q.to(torch.int8), scale.view(torch.int8)], dim=-1)


def unpack(packed: NDArray[np.int8]) -> NDArray[np.float32]:
    """The vectors again, (..., D)."""
    scale = np.ascontiguousarray(packed[..., -SCALE.itemsize :]).view(SCALE)
    return np.multiply(packed[..., : -SCALE.itemsize], scale, dtype=np.float32)


def unknown(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of this stored shape and dtype whose numbers are all NaN."""
    if np.dtype(dtype) != np.int8:
        return np.full(shape, np.nan, dtype)
    packed = np.zeros(shape, np.int8)
    packed[..., -SCALE.itemsize :] = np.frombuffer(SCALE.type(np.nan).tobytes(), np.int8)
    return packed
