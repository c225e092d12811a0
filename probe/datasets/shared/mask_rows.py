"""Images with masks: partitions that know the pixels of each class, and decode a mask when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.abilities import DigestsRows
from probe.core.base import IntArray, Partition, digest
from probe.core.hashing import hash_arrays
from probe.core.targets.mask import Masks, mask_dtype
from probe.datasets.shared.partitions import check_lengths
from probe.datasets.shared.row_facts import keep_facts
from probe.datasets.shared.subsets import subset


class MaskRows:
    """Masks of some of the images, read through those of all."""

    def __init__(self, whole: Masks, indices: IntArray):
        self.whole, self.indices = whole, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.whole[int(self.indices[row])]

    def rows(self, indices: IntArray) -> MaskRows:
        """Those of some of them."""
        return MaskRows(self.whole, self.indices[indices])


class ArrayMasks:
    """Masks of one size in an array (N, H, W) of codes; see `probe.core.targets.mask.IGNORED_PIXEL`."""

    def __init__(self, codes: NDArray[Any]):
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.codes[row]

    def rows(self, indices: IntArray) -> MaskRows:
        """Those of some of the images."""
        return MaskRows(self, indices)

    def counts(self, n_classes: int) -> IntArray:
        """(N, K) labelled pixels of each class in each image."""
        flat = self.codes.reshape(len(self.codes), -1)
        return np.stack([class_pixels(mask, n_classes) for mask in flat])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all codes."""
        return hash_arrays({"masks": self.codes})


class RecodedMasks:
    """Masks whose classes go by other codes.

    Args:
        whole: The masks.
        codes: (K',) for each of their classes its code among the others, -1 where its pixels are to have no label.
        n_classes: K, of the others.
    """

    def __init__(self, whole: Masks, codes: IntArray, n_classes: int):
        self.whole, dtype = whole, mask_dtype(n_classes)
        self.table = np.full(np.iinfo(np.uint16).max + 1, np.iinfo(dtype).max, dtype=dtype)
        self.table[np.flatnonzero(codes >= 0)] = codes[codes >= 0]

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.table[self.whole[row]]

    def rows(self, indices: IntArray) -> MaskRows:
        """Those of some of the images."""
        return MaskRows(self, indices)


class RecodedPartition:
    """Images with masks whose classes go by the codes of another dataset; all else is as it was.

    Args:
        whole: A partition of images with masks.
        codes, n_classes: As `RecodedMasks` has them.
    """

    def __init__(self, whole: Any, codes: IntArray, n_classes: int):
        self.whole, self.masks = whole, RecodedMasks(whole.masks, codes, n_classes)
        self.labels = np.zeros((len(whole), n_classes), dtype=np.int64)
        self.labels[:, codes[codes >= 0]] = np.asarray(whole.labels)[:, codes >= 0]
        self.ids: Sequence[str] = whole.ids
        self.fingerprint: str = digest([whole.fingerprint, codes.tolist(), n_classes])
        if isinstance(whole, DigestsRows):
            self.row_digests = whole.row_digests
        keep_facts(self, whole, np.arange(len(whole)))

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, row: int) -> Any:
        return self.whole[row]


class MaskPartition:
    """Images, each with the mask of its pixels.

    Args:
        images: With (N, K) labelled pixels of each class as their labels.
        masks: In the order of the images.
        masks_digest: Names the content of all masks, and how it is read.
    """

    def __init__(self, images: Partition, masks: Masks, masks_digest: str):
        self.images, self.masks, self.masks_digest = images, masks, masks_digest
        check_lengths({"images": len(images), "masks": len(masks)})
        if isinstance(images, DigestsRows):
            self.row_digests = images.row_digests

    @property
    def labels(self) -> IntArray:
        """(N, K) labelled pixels of each class in each image."""
        return self.images.labels

    @property
    def ids(self) -> Sequence[str]:
        """Names of the images."""
        return self.images.ids

    @cached_property
    def fingerprint(self) -> str:
        """Digest of images, labels, ids and masks."""
        return digest([self.images.fingerprint, self.masks_digest])

    def subset(self, rows: IntArray) -> MaskPartition:
        """Some of the images, with their masks."""
        chosen = np.asarray(rows, dtype=np.int64)
        own = digest([self.masks_digest, chosen.tolist()])
        return MaskPartition(subset(self.images, chosen), self.masks.rows(chosen), own)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.images[row]


def class_pixels(mask: NDArray[Any], n_classes: int) -> IntArray:
    """(K,) pixels of each class in a mask; those without a label are of none."""
    return np.bincount(np.ravel(mask), minlength=n_classes)[:n_classes].astype(np.int64)
