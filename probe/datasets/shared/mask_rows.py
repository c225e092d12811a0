"""Images with a label per pixel: partitions that know what there is of each label, and decode a mask when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from probe.core.abilities import DigestsRows
from probe.core.base import IntArray, Partition, digest
from probe.core.hashing import hash_arrays
from probe.core.targets.mask import Masks, mask_dtype
from probe.core.targets.number_map import NumberMaps, labels_of
from probe.datasets.shared.partitions import check_lengths
from probe.datasets.shared.row_facts import keep_facts
from probe.datasets.shared.subsets import subset


class MaskRows:
    """Masks, or maps of numbers, of some of the images, read through those of all."""

    def __init__(self, whole: Any, indices: IntArray):
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


class ArrayMaps:
    """Maps of one size in an array (N, H, W) of numbers, NaN where a pixel is unlabelled."""

    def __init__(self, numbers: NDArray[np.float32]):
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        return self.numbers[row]

    def rows(self, indices: IntArray) -> MaskRows:
        """Those of some of the images."""
        return MaskRows(self, indices)

    def labels(self) -> NDArray[np.float64]:
        """(N, 2) mean and count of the labelled pixels of each image."""
        return np.array([labels_of(numbers) for numbers in self.numbers], dtype=np.float64)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all numbers."""
        return hash_arrays({"maps": self.numbers})


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


class PixelPartition:
    """Images, each with labels of its pixels.

    Args:
        images: With what the target says of each image as their labels.
        pixels: Labels of the pixels, in the order of the images; some of them by `rows`.
        pixels_digest: Names the content of all of these, and how it is read.
    """

    def __init__(self, images: Partition, pixels: Any, pixels_digest: str):
        self.images, self.pixels, self.pixels_digest = images, pixels, pixels_digest
        check_lengths({"images": len(images), self.called: len(pixels)})
        if isinstance(images, DigestsRows):
            self.row_digests = images.row_digests

    called: ClassVar[str]

    @property
    def labels(self) -> NDArray[Any]:
        """As the target has them, a row per image."""
        return self.images.labels

    @property
    def ids(self) -> Sequence[str]:
        """Names of the images."""
        return self.images.ids

    @cached_property
    def fingerprint(self) -> str:
        """Digest of images, labels, ids and pixels."""
        return digest([self.images.fingerprint, self.pixels_digest])

    def subset(self, rows: IntArray) -> Self:
        """Some of the images, with the labels of their pixels."""
        chosen = np.asarray(rows, dtype=np.int64)
        own = digest([self.pixels_digest, chosen.tolist()])
        return type(self)(subset(self.images, chosen), self.pixels.rows(chosen), own)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.images[row]


class MaskPartition(PixelPartition):
    """Images, each with the mask of its pixels; labels are (N, K) labelled pixels of each class in each image."""

    called: ClassVar[str] = "masks"

    @property
    def masks(self) -> Masks:
        """Of the images."""
        found: Masks = self.pixels
        return found


class NumberMapPartition(PixelPartition):
    """Images, each with a number per pixel; labels are (N, 2) mean and count of the labelled pixels of each image."""

    called: ClassVar[str] = "maps"

    @property
    def number_maps(self) -> NumberMaps:
        """Of the images."""
        found: NumberMaps = self.pixels
        return found


def class_pixels(mask: NDArray[Any], n_classes: int) -> IntArray:
    """(K,) pixels of each class in a mask; those without a label are of none."""
    return np.bincount(np.ravel(mask), minlength=n_classes)[:n_classes].astype(np.int64)
