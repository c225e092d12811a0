"""Which device computes, what a GPU needs to give the numbers of a CPU, and what may be kept in its memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.arrays import draws_views, read_rows, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def resolve_device(device: str) -> str:
    """`auto` is `cuda` where there is one, else `cpu`; anything else stands as it is.

    Raises:
        InputError: no name of a device, or a GPU that is not there.
    """
    if device == "cpu":
        return device
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_gpus else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"device is {device!r}, expected auto, cpu, cuda or cuda:<number>: set one of them") from None
    if found.type == "cuda" and (found.index or 0) >= n_gpus:
        raise InputError(
            f"device is {device} and torch finds {n_gpus} GPUs here: set device=auto, or mend the driver or the build "
            "of torch"
        )
    return device


def device_name(device: str) -> str:
    """What the record calls a device: `cpu`, or the GPU's name."""
    resolved = resolve_device(device)
    if resolved == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(resolved)


def full_precision() -> AbstractContextManager[None]:
    """CUDA convolutions of float32 as such, and in a fixed order; TF32, their default, keeps three digits.

    Features of a backbone are looked up by its identity, in which the device has no part: they have to agree.
    """
    import torch

    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def free_bytes(device: str) -> int:
    """Bytes that a GPU has free, with those that torch holds in reserve."""
    import torch

    in_reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + in_reserve


def budget(device: str, on_cpu: int, part: int) -> int:
    """Bytes to keep on a device: of a GPU one part in `part` of what is free; a computer's memory others want too."""
    return free_bytes(device) // part if device.startswith("cuda") else on_cpu


class ResidentRows:
    """Rows of several arrays that lie on a GPU: mini-batches in random order cost no reading, and no copy on the way.

    `rows[indices]` is a dict of tensors there, as `RowReader` gives one of arrays.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.tensors = dict(tensors)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: IntArray) -> dict[str, Tensor]:
        import torch

        device = next(iter(self.tensors.values())).device
        where = torch.from_numpy(rows).to(device)
        return {name: tensor[where] for name, tensor in self.tensors.items()}

    def at_epoch(self, epoch: int) -> ResidentRows:
        """Itself: drawn views are not kept."""
        return self


def resident_rows(arrays: Mapping[str, Any], device: str) -> ResidentRows | None:
    """The arrays on a GPU in their own precision; None where they would take more than a third of what is free there.

    None on a CPU too, where training sees other views in each epoch, and where rows differ in length.
    """
    import torch

    if not device.startswith("cuda") or any(draws_views(a) or getattr(a, "ragged", False) for a in arrays.values()):
        return None
    n_bytes = sum(array.dtype.itemsize * math.prod(array.shape) for array in arrays.values())
    if n_bytes > budget(device, 0, 3):
        return None
    tensors = {}
    for name, array in arrays.items():
        dtype = torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype
        tensors[name] = torch.empty(array.shape, dtype=dtype, device=device)
        for rows in row_chunks(array):
            tensors[name][rows] = torch.from_numpy(read_rows(array, np.arange(rows.start, rows.stop))).to(device)
    return ResidentRows(tensors)
