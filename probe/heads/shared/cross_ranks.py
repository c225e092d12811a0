"""Ranks of matching rows of two sets, by cosine: images among texts, and texts among images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.hashing import hash_bytes

if TYPE_CHECKING:
    from torch import Tensor

PRODUCT_BYTES = 2**26
"""Of the cosines that are looked at at once."""


def cross_ranks(
    images: ArrayLike, texts: ArrayLike, caption_texts: IntArray, owners: IntArray, *, device: str = "cpu"
) -> tuple[IntArray, IntArray]:
    """Rank of the nearest own caption of each image among all captions, and of the own image of each caption.

    Ranks count from 0. Of equal cosines that of the lower number comes first, an image as a caption. Cosines are
    float32; equal rows have equal ones, as each different row is multiplied once. A row of zeros has cosine 0.

    Args:
        images: (N, D).
        texts: (U, D).
        caption_texts: (M,) which of the texts each caption is.
        owners: (M,) the image of each caption, in ascending order.

    Returns:
        (N,), -1 for an image without captions, and (M,).
    """
    rows, row_of = _different(np.asarray(images, dtype=np.float32))
    columns, column_of = _different(np.asarray(texts, dtype=np.float32))
    column_of = column_of[caption_texts]
    n_images, n_captions = len(row_of), len(owners)
    at = _places(row_of, len(rows))
    unit_rows, unit_columns = _unit(rows, device), _unit(columns, device).T
    step = max(1, PRODUCT_BYTES // (4 * max(1, n_captions)))
    own = np.empty(n_captions, dtype=np.float32)
    text_rank = np.full(n_images, -1, dtype=np.int64)
    # Twice the same products: whether an image is nearer to a caption than its own is known once this one was met.
    for start in range(0, len(rows), step):
        cosines = _product(unit_rows[start : start + step], unit_columns)
        for place in range(len(cosines)):
            to_captions = cosines[place][column_of]
            for image in at[start + place]:
                mine = np.arange(*np.searchsorted(owners, [image, image + 1]))
                if len(mine):
                    own[mine] = to_captions[mine]
                    best = mine[to_captions[mine].argmax()]
                    before = to_captions[:best] == to_captions[best]
                    text_rank[image] = (to_captions > to_captions[best]).sum() + before.sum()
    image_rank = np.zeros(n_captions, dtype=np.int64)
    for start in range(0, len(rows), step):
        cosines = _product(unit_rows[start : start + step], unit_columns)
        for place in range(len(cosines)):
            to_captions, alike = cosines[place][column_of], at[start + place]
            itself = row_of[owners] == start + place
            equal = np.flatnonzero((to_captions == own) | itself)
            image_rank += len(alike) * ((to_captions > own) & ~itself)
            image_rank[equal] += np.searchsorted(alike, owners[equal])
    return text_rank, image_rank


def _different(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], IntArray]:
    """The rows that differ, in the order in which they come, and which of them each is."""
    seen: dict[str, int] = {}
    number = np.array([seen.setdefault(hash_bytes(row.tobytes()), len(seen)) for row in rows], dtype=np.int64)
    return rows[np.unique(number, return_index=True)[1]], number


def _places(number: IntArray, n: int) -> list[IntArray]:
    """For each of n different rows where it stands, in ascending order."""
    order = np.argsort(number, kind="stable")
    return np.split(order, np.searchsorted(number[order], np.arange(1, n)))


def _unit(rows: NDArray[np.float32], device: str) -> Tensor:
    import torch

    on_device = torch.from_numpy(rows).to(resolve_device(device))
    lengths = torch.linalg.vector_norm(on_device, dim=1, keepdim=True)
    return on_device / torch.where(lengths > 0, lengths, 1.0)


def _product(rows: Tensor, columns: Tensor) -> NDArray[np.float32]:
    """(n, U) cosines of some rows."""
    found: NDArray[np.float32] = (rows @ columns).cpu().numpy()
    return found
