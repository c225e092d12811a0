"""Rows of a split as the library `datasets` of Hugging Face holds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from probe.core.base import IntArray, digest
from probe.core.errors import InputError
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes
from probe.core.images import read_image, upright_size
from probe.datasets.shared.partitions import check_lengths

CHUNK_ROWS = 1000


class HuggingFacePartition:
    """Rows of one split; images stay encoded until they are asked for.

    The fingerprint is that of the encoded images and the labels; what the library calls its fingerprint, which depends
    on how the rows were made, has no part in it.
    """

    def __init__(self, rows: Any, image: str, labels: NDArray[Any], ids: Sequence[str], inside: Sequence[Path] = ()):
        """`inside`: folders whose files a row may name instead of holding an image; others are not opened."""
        from datasets import Image as ImageFeature

        check_lengths({"rows": len(rows), "labels": len(labels), "ids": len(ids)})
        self._inside = [folder.absolute() for folder in inside]
        # The library would decode the other columns of a row too, with any decoder that it has.
        self.rows = rows.select_columns([image]).cast_column(image, ImageFeature(decode=False))
        self.labels, self.ids, self._image = labels, list(ids), image

    def subset(self, rows: IntArray) -> HuggingFacePartition:
        """Some of the rows; the others are not read for its fingerprint."""
        ids = [self.ids[row] for row in rows]
        return HuggingFacePartition(self.rows.select(rows), self._image, self.labels[rows], ids, self._inside)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of encoded images and labels, in order."""
        return digest([self.row_digests(), self.labels.tolist()])

    def row_digests(self) -> list[str]:
        """Digest of each row's encoded image: copies of an image have equal ones; empty where there is none."""
        return self._digests

    @cached_property
    def _digests(self) -> list[str]:
        stored = self._stored
        paths = {row: self._file(row) for row, value in enumerate(stored) if not value}
        loose = {row: str(path) for row, path in paths.items() if path is not None}
        found = dict(zip(loose, file_digests(Path("/"), list(loose.values())), strict=True))
        return [value or found.get(row, "") for row, value in enumerate(stored)]

    @cached_property
    def _stored(self) -> list[str]:
        return remembered(f"images {self._image} {digest(self.ids)}", self._tables, self._stored_digests)

    @property
    def _tables(self) -> list[Path]:
        return [Path(file["filename"]) for file in self.rows.cache_files]

    def _stored_digests(self) -> list[str]:
        """Digests of the images that are stored in the table; empty where it holds a path."""
        tables = self.rows.select_columns([self._image]).with_format("arrow").iter(batch_size=CHUNK_ROWS)
        images = (value for table in tables for value in table.column(0))
        blobs = (value["bytes"].as_buffer() if value.is_valid else None for value in images)
        return ["" if blob is None else hash_bytes(blob) for blob in blobs]

    def _file(self, row: int) -> Path | None:
        """The file that a row names instead of holding an image, if it is one of the dataset's own."""
        named = self._encoded(row)["path"]
        path = Path(os.path.abspath(named)) if named else None
        if path is None or not path.is_file():
            return None
        if not any(path.is_relative_to(own) for folder in self._inside for own in (folder, folder.resolve())):
            raise InputError(
                f"{self.ids[row]} (row {row}) names the file {named} in column {self._image} and holds no image, "
                "expected the image itself, or a file in the dataset's own folder: embed the images"
            )
        return path.resolve()

    def size(self, row: int) -> tuple[int, int] | None:
        """Width and height of an image as it is seen, without decoding it."""
        encoded = self._encoded(row)["bytes"]
        return upright_size(encoded or self._file(row))

    @property
    def files(self) -> list[Path]:
        """Those that hold all rows; none where some images lie in files of their own."""
        return [] if "" in self._stored else self._tables

    def _encoded(self, row: int) -> dict[str, Any]:
        return self.rows[row][self._image] or {"bytes": None, "path": None}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Image.Image:
        value, name = self._encoded(int(row)), f"{self.ids[row]} (row {row})"
        source = self._file(int(row)) if value["bytes"] is None else value["bytes"]
        if source is None:
            raise InputError(
                f"{name} holds no image, expected one in column {self._image}: leave the row out, or set "
                "features.on_error=skip"
            )
        return read_image(source, name)
