"""Fast digests of tensors and arrays by content: what names weights, rows and blocks of features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.core.base import digest
from probe.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BYTES = 4 * 2**20
"""Part of the digest: arrays are hashed in pieces of this size, so that threads can share one array."""


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Digest of named tensors: names, dtypes, shapes and bits; device, memory layout and order do not count.

    Equals `hash_arrays` of the same values as numpy arrays. It is no protection against forgery (XXH3, 128 bits).
    """
    import torch

    def parts() -> Iterable[tuple[str, str, tuple[int, ...], memoryview]]:
        for name, tensor in tensors.items():
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), flat.numpy().data

    return _digest_parts(parts())


def hash_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Digest of named numeric, boolean or string arrays: names, dtypes, shapes and bits; byte order does not count.

    Memmaps are read piece by piece. Arrays of Python objects have no bits to hash and raise `InputError`.
    """

    def parts() -> Iterable[tuple[str, str, tuple[int, ...], memoryview]]:
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise InputError(f"{name} is an array of Python objects, expected numbers or strings: convert it first")
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
            yield name, array.dtype.name, array.shape, little.view(np.uint8).data

    return _digest_parts(parts())


def hash_bytes(data: Any) -> str:
    """32 hex digits of the XXH3-128 of anything with a contiguous buffer."""
    return xxhash.xxh3_128_hexdigest(data)


def _digest_parts(parts: Iterable[tuple[str, str, tuple[int, ...], memoryview]]) -> str:
    # xxhash lets go of the interpreter lock for large buffers, so threads scale until memory bandwidth ends.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        entries = [
            (
                name,
                dtype,
                shape,
                [pool.submit(hash_bytes, data[i : i + CHUNK_BYTES]) for i in range(0, len(data), CHUNK_BYTES)],
            )
            for name, dtype, shape, data in parts
        ]
        return digest(
            sorted([name, dtype, list(shape), [f.result() for f in hashes]] for name, dtype, shape, hashes in entries)
        )
