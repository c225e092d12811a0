"""Images in parquet files, in the layout that Hugging Face `datasets` writes and reads."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from probe.core.base import Dataset, IntArray, digest
from probe.core.errors import InputError
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes
from probe.core.images import read_image
from probe.datasets.shared.labels import encode_labels, join_columns, label_columns, read_class_names, target_of
from probe.datasets.shared.partitions import make_dataset
from probe.datasets.shared.row_facts import know

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid", "dev")}
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
CACHE_BYTES = 128 * 2**20
"""Row groups kept in memory by each process; the last one used stays whatever its size."""


class ParquetPartition:
    """Rows of several files, encoded images fetched by row group and decoded when asked for.

    Safe to pickle and to fork: open files and row groups belong to one process and are never handed on.
    """

    def __init__(self, files: Sequence[Path], image: str, label: str, labels: IntArray):
        self.files = list(files)
        self.labels = labels
        self._columns = (image, label)
        counts = [_n_rows_by_group(file) for file in self.files]
        self._groups = [(i, g) for i, groups in enumerate(counts) for g in range(len(groups))]
        self._starts = np.cumsum([0, *(n for groups in counts for n in groups)])
        self._file_starts = np.cumsum([0, *(sum(groups) for groups in counts)])
        self._reader: _Reader | None = None

    @cached_property
    def ids(self) -> list[str]:
        """File and row in it."""
        lengths = np.diff(self._file_starts)
        return [f"{f.name}:{row}" for f, n in zip(self.files, lengths, strict=True) for row in range(n)]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the files' contents and names, in order, and of the columns in use."""
        names = [file.name for file in self.files]
        return digest([self._columns, names, file_digests(self.files[0].parent, names)])

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


def load(
    path: str | None = None,
    name: str | None = None,
    image_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    group_column: str | None = None,
    session_column: str | None = None,
    hardness_column: str | None = None,
) -> Dataset:
    """Reads `train-*.parquet`, `test-*.parquet` and, optionally, `validation-*.parquet` from a folder or its `data/`.

    Class names come from the schema's metadata where Hugging Face wrote them; else string labels are classes in
    sorted order, and numbers stand for themselves.

    Args:
        path: The folder.
        name: How tables call the dataset; the folder's name by default.
        image_column: Column of encoded images, plain binary or a struct with `bytes`; found by its type by default.
        label_column: Column of labels; the first of `LABEL_COLUMNS` that is there by default. Where rows have several
            labels: a column of lists, or several columns of zeros and ones.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        group_column, session_column, hardness_column: What else is known of each row, see
            `probe.datasets.shared.row_facts.FACTS`.
    """
    if path is None:
        raise InputError(
            "dataset=parquet needs a folder, none is given: set dataset.path=<folder with train-*.parquet>"
        )
    root = Path(path).expanduser()
    found = _partition_files(root)
    schema = _schema(found["train"][0])
    image = _image_column(schema, image_column)
    columns = [_label_column(schema, asked, image) for asked in label_columns(label_column)]
    raw = {p: join_columns({c: _labels(files, image, c) for c in columns}) for p, files in found.items()}
    given = read_class_names(class_names) or (columns if len(columns) > 1 else _metadata_names(schema, columns[0]))
    codes, names = encode_labels(raw, f"column {', '.join(columns)}", given, ignore_label)
    label = ",".join(columns)
    known = {"groups": group_column, "sessions": session_column, "hardness": hardness_column}
    partitions = {}
    for part, files in found.items():
        facts = {fact: _fact(files, column, part) for fact, column in known.items()}
        partitions[part] = know(ParquetPartition(files, image, label, codes[part]), facts, part)
    return make_dataset(name or root.resolve().name, names, partitions, target=target_of(raw))


def _fact(files: Sequence[Path], column: str | None, part: str) -> list[Any] | None:
    """The values of a column that train must have; None where it is not asked for, or another partition lacks it."""
    schemas = [_schema(file) for file in files] if column else []
    if column is None or (part != "train" and any(column not in schema.names for schema in schemas)):
        return None
    for file, schema in zip(files, schemas, strict=True):
        if column not in schema.names:
            raise InputError(f"{file} has the columns {_columns(schema)}, expected {column}: name one that it has")
    return [value for file in files for value in _values(file, column)]


def _partition_files(root: Path) -> dict[str, list[Path]]:
    for folder in (root, root / "data"):
        found = {}
        for part, names in PARTITIONS.items():
            pattern = re.compile(rf"({'|'.join(names)})([-_.].*)?\.parquet")
            files = sorted(f for f in folder.glob("*.parquet") if pattern.fullmatch(f.name))
            if files:
                found[part] = files
        if "test" not in found and "validation" in found:
            found["test"] = found.pop("validation")
        if "train" in found and "test" in found:
            return found
    there = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    raise InputError(
        f"{root} has {', '.join(there[:10]) or 'nothing'}, expected train-*.parquet and test-*.parquet (or "
        "validation-*.parquet) in it or in its data/ folder: give the folder that holds them"
    )


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is no readable parquet file ({error}): download or write it again") from error


def _schema(file: Path) -> pa.Schema:
    with _open(file) as opened:
        return opened.schema_arrow


def _n_rows_by_group(file: Path) -> list[int]:
    with _open(file) as opened:
        return [opened.metadata.row_group(g).num_rows for g in range(opened.num_row_groups)]


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _image_column(schema: pa.Schema, asked: str | None) -> str:
    fitting = [field.name for field in schema if _is_image_type(field.type)]
    if asked in fitting:
        return str(asked)
    if asked is None and fitting:
        return fitting[0]
    raise InputError(
        f"column {asked or 'for images'} holds no encoded images, the columns are {_columns(schema)}: set "
        f"dataset.image_column to one of {', '.join(fitting) or 'binary type, by writing the files anew'}"
    )


def _label_column(schema: pa.Schema, asked: str | None, image: str) -> str:
    candidates = LABEL_COLUMNS if asked is None else (asked,)
    for candidate in candidates:
        if candidate in schema.names and candidate != image:
            return candidate
    raise InputError(
        f"there is no label column {' or '.join(candidates)}, the columns are {_columns(schema)}: set "
        "dataset.label_column to the one with the classes"
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _labels(files: Sequence[Path], image: str, label: str) -> list[Any]:
    values: list[Any] = []
    for file in files:
        with _open(file) as opened:
            absent = {image, label} - set(opened.schema_arrow.names)
            if absent:
                raise InputError(
                    f"{file} has no column {' and '.join(sorted(absent))}, its columns are "
                    f"{_columns(opened.schema_arrow)}: give files with the same columns"
                )
        values += _values(file, label)
    return values


def _values(file: Path, column: str) -> list[Any]:
    with _open(file) as opened:
        return list(opened.read(columns=[column]).column(0).to_pylist())


def _metadata_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Class names as Hugging Face `ClassLabel` keeps them in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kind = features[label]
        return [str(name) for name in (kind if "names" in kind else kind["feature"])["names"]]
    except (KeyError, TypeError, ValueError):
        return None
