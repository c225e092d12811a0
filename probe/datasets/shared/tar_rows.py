"""Images in tar shards, read and decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from probe.core.base import IntArray, digest
from probe.core.files import remembered
from probe.core.hashing import hash_bytes
from probe.core.images import read_image
from probe.datasets.shared.partitions import check_lengths
from probe.datasets.shared.shards import Place, contents


class TarPartition:
    """Images at known places in shards, read and decoded when asked for."""

    def __init__(self, shards: Sequence[Path], images: ArrayLike, ids: Sequence[str], labels: IntArray):
        self.shards, self.labels, self.ids = list(shards), labels, list(ids)
        self._images = np.array(images, dtype=np.int64).reshape(-1, 3)
        check_lengths({"images": len(self._images), "labels": len(self.labels), "ids": len(self.ids)})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of encoded images, ids and labels, in order."""
        return digest([self.row_digests(), self.ids, self.labels.tolist()])

    def subset(self, rows: IntArray) -> TarPartition:
        """Some of the rows; the others are not read for its fingerprint."""
        return TarPartition(self.shards, self._images[rows], [self.ids[row] for row in rows], self.labels[rows])

    def row_digests(self) -> list[str]:
        """Digest of each row's encoded image: copies of an image have equal ones."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        def compute() -> list[str]:
            places = (Place(*(int(value) for value in place)) for place in self._images)
            return [hash_bytes(content) for content in contents(self.shards, places)]

        return remembered(f"images {hash_bytes(self._images)}", self.shards, compute)

    def _encoded(self, row: int) -> bytes:
        shard, offset, size = (int(value) for value in self._images[row])
        return b"".join(contents(self.shards, [Place(shard, offset, size)]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Image.Image:
        return read_image(self._encoded(int(row)), f"{self.ids[row]} (row {row})")
