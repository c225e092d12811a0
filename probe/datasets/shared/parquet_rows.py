"""Images in parquet files, fetched by row group and decoded when asked for."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes
from probe.core.images import read_image
from probe.datasets.shared.parquet_files import n_rows_by_group
from probe.datasets.shared.partitions import check_lengths

CACHE_BYTES = 128 * 2**20
"""Row groups kept in memory by each process; the last one used stays whatever its size."""


class ParquetPartition:
    """Rows of several files, encoded images fetched by row group and decoded when asked for.

    Safe to pickle and to fork: open files and row groups belong to one process and are never handed on.
    """

    def __init__(self, files: Sequence[Path], image: str, label: str, labels: NDArray[Any], translated: bool = False):
        self.files = list(files)
        self.labels = labels
        self._translated = translated
        self._columns = (image, label)
        counts = [n_rows_by_group(file) for file in self.files]
        self._groups = [(i, g) for i, groups in enumerate(counts) for g in range(len(groups))]
        self._starts = np.cumsum([0, *(n for groups in counts for n in groups)])
        self._file_starts = np.cumsum([0, *(sum(groups) for groups in counts)])
        self._reader: _Reader | None = None
        check_lengths({"rows": len(self), "labels": len(labels)})

    @cached_property
    def ids(self) -> list[str]:
        """File and row in it."""
        lengths = np.diff(self._file_starts)
        return [f"{f.name}:{row}" for f, n in zip(self.files, lengths, strict=True) for row in range(n)]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the files' contents and names, in order, of the columns in use and of codes that are not theirs."""
        names = [file.name for file in self.files]
        codes = [self.labels.tolist()] if self._translated else []
        return digest([self._columns, names, file_digests(self.files[0].parent, names), *codes])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Image.Image:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row = row % len(self)
        data, name = self._encoded(row), f"{self.ids[row]} (row {row})"
        if data is None:
            raise InputError(
                f"{name} holds no image bytes, expected encoded images in column {self._columns[0]}: embed them"
            )
        return read_image(data, name)

    def row_digests(self) -> list[str]:
        """Digest of each row's encoded image: copies of an image have equal ones."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        def compute() -> list[str]:
            return [hash_bytes(self._encoded(row) or b"") for row in range(len(self))]

        return remembered(f"images {self._columns[0]}", self.files, compute)

    def _encoded(self, row: int) -> bytes | None:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._reader is None or self._reader.pid != os.getpid():
            self._reader = _Reader(self.files, self._columns[0])
        value = self._reader.column(*self._groups[group])[row - int(self._starts[group])].as_py()
        return value.get("bytes") if isinstance(value, dict) else value

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}


class _Reader:
    """Open files and the row groups used last, for one process; threads take turns."""

    def __init__(self, files: Sequence[Path], column: str):
        self.pid = os.getpid()
        self._files, self._column_name = files, column
        self._open: dict[int, pq.ParquetFile] = {}
        self._kept: OrderedDict[tuple[int, int], pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def column(self, file: int, group: int) -> pa.ChunkedArray:
        with self._lock:
            key = (file, group)
            if key not in self._kept:
                if file not in self._open:
                    self._open[file] = pq.ParquetFile(self._files[file])
                # Room is made before reading, so that no more than one group stands above the limit.
                while self._kept and sum(c.nbytes for c in self._kept.values()) > CACHE_BYTES // 2:
                    self._kept.popitem(last=False)
                self._kept[key] = self._open[file].read_row_group(group, columns=[self._column_name]).column(0)
            self._kept.move_to_end(key)
            return self._kept[key]
