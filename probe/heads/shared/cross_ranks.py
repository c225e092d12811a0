"""Ranks of matching rows of two sets: images among texts and texts among images, documents for queries."""

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
"""Of the similarities that are looked at at once."""


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


def judged_ranks(
    queries: ArrayLike,
    documents: ArrayLike,
    judged: IntArray,
    left_out: IntArray,
    *,
    cosine: bool = True,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Rank of documents among all of them, in the order of their similarity with a query.

    Ranks count from 0. Of equal similarities the document with the lower number comes first. Similarities are float32;
    equal documents have equal ones, as each different one is multiplied once.

    Args:
        queries: (Q, D).
        documents: (N, D).
        judged: (J, 2) pairs of a query and a document whose rank is asked for.
        left_out: (P, 2) pairs of a query and a document that it is not shown.
        cosine: Whether similarity is the cosine, 0 of a row of zeros; else the dot product.
        device: Where products are computed.

    Returns:
        (J,), infinite for a document that is left out.
    """
    columns, column_of = _different(np.asarray(documents, dtype=np.float32))
    placed = _unit if cosine else _on_device
    left, right = placed(np.asarray(queries, dtype=np.float32), device), placed(columns, device).T
    repeated, step = len(columns) < len(column_of), max(1, PRODUCT_BYTES // (4 * max(1, len(columns))))
    of_query, hidden = (_places(pairs[:, 0], len(left)) for pairs in (judged, left_out))
    ranks = np.full(len(judged), np.inf)
    for start in range(0, len(left), step):
        for query, similar in enumerate(_product(left[start : start + step], right), start):
            to_documents = similar[column_of] if repeated else similar
            to_documents[left_out[hidden[query], 1]] = -np.inf
            for pair in of_query[query]:
                document = judged[pair, 1]
                if (own := to_documents[document]) > -np.inf:
                    before = np.count_nonzero(to_documents[:document] == own)
                    ranks[pair] = np.count_nonzero(to_documents > own) + before
    return ranks


def _different(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], IntArray]:
    """The rows that differ, in the order in which they come, and which of them each is."""
    seen: dict[str, int] = {}
    number = np.array([seen.setdefault(hash_bytes(row.tobytes()), len(seen)) for row in rows], dtype=np.int64)
    # A copy of a large corpus would be for nothing.
    return (rows if len(seen) == len(rows) else rows[np.unique(number, return_index=True)[1]]), number


def _places(number: IntArray, n: int) -> list[IntArray]:
    """For each of n different rows where it stands, in ascending order."""
    order = np.argsort(number, kind="stable")
    return np.split(order, np.searchsorted(number[order], np.arange(1, n)))


def _on_device(rows: NDArray[np.float32], device: str) -> Tensor:
    import torch

    return torch.from_numpy(rows).to(resolve_device(device))


def _unit(rows: NDArray[np.float32], device: str) -> Tensor:
    import torch

    on_device = _on_device(rows, device)
    lengths = torch.linalg.vector_norm(on_device, dim=1, keepdim=True)
    return on_device / torch.where(lengths > 0, lengths, 1.0)


def _product(rows: Tensor, columns: Tensor) -> NDArray[np.float32]:
    """(n, U) similarities of some rows."""
    found: NDArray[np.float32] = (rows @ columns).cpu().numpy()
    return found
