"""Parquet files of one dataset: their columns, which must mean the same in all of them, and their labels."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.files import require_regular
from probe.datasets.shared.dictionaries import Coded
from probe.datasets.shared.sources import holds, unused_files

Files = Mapping[str, Sequence[Path]]
"""The files of each partition."""
PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid", "dev")}


def partition_files(root: Path, learnt: bool = True) -> tuple[Mapping[str, list[Path]], list[str]]:
    """The files of each partition, and what is left out; where nothing is learnt, train need not be there."""
    if root.is_file():
        return {"train": [root]}, []
    for folder in (root, root / "data"):
        found = {}
        for part, names in PARTITIONS.items():
            pattern = re.compile(rf"({'|'.join(names)})([-_.].*)?\.parquet")
            files = sorted(f for f in folder.glob("*.parquet") if pattern.fullmatch(f.name))
            if files:
                found[part] = files
        if "test" not in found and "validation" in found:
            found["test"] = found.pop("validation")
        every = sorted(f for f in folder.glob("*.parquet") if not f.name.startswith("."))
        if not found and every:
            return {"train": every}, []
        if "train" in found or (found and not learnt):
            used = [file for files in found.values() for file in files]
            return found, unused_files(folder, used, "*.parquet", "named for no partition")
    raise InputError(
        f"{holds(root)}, expected train-*.parquet and test-*.parquet (or validation-*.parquet) in it or in its data/ "
        "folder: give the folder that holds them"
    )


def open_file(file: Path) -> pq.ParquetFile:
    """An open file; what is none is refused."""
    require_regular(file)
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is no readable parquet file ({error}): download or write it again") from error


def schema_of(file: Path) -> pa.Schema:
    """Columns and types of a file, in which every column has a name of its own."""
    with open_file(file) as opened:
        schema = opened.schema_arrow
    twice = [name for name, n in Counter(schema.names).items() if n > 1]
    if twice:
        raise InputError(f"{file} has several columns named {twice[0]!r}, expected one: rename the others")
    return schema


def n_rows_by_group(file: Path) -> list[int]:
    """Rows of each row group."""
    with open_file(file) as opened:
        return [opened.metadata.row_group(g).num_rows for g in range(opened.num_row_groups)]


def values_of(file: Path, column: str) -> list[Any]:
    """All values of a column."""
    with open_file(file) as opened:
        return list(opened.read(columns=[column]).column(0).to_pylist())


def described(schema: pa.Schema) -> dict[str, str]:
    """Every column and its type, for `columns.choose` and its errors."""
    return {field.name: str(field.type) for field in schema}


def is_image_type(kind: pa.DataType) -> bool:
    """Whether values can be encoded images: bytes, or a struct with `bytes`."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and is_image_type(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def images_of(schema: pa.Schema) -> list[str]:
    """The columns that can hold encoded images."""
    return [field.name for field in schema if is_image_type(field.type)]


def is_number_type(kind: pa.DataType) -> bool:
    """Whether values are numbers that can be a feature."""
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def is_series_type(kind: pa.DataType) -> bool:
    """Whether values are lists of numbers, or lists of such lists."""
    return is_list_type(kind) and (
        is_number_type(kind.value_type)
        or (is_list_type(kind.value_type) and is_number_type(kind.value_type.value_type))
    )


def is_list_type(kind: pa.DataType) -> bool:
    """Whether values are lists, of one length or of several."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def check_schemas(files: Files, columns: Mapping[str, str]) -> None:
    """Refuses a file that lacks one of the columns, or has something else in it than the first.

    Args:
        files: Of each partition.
        columns: Column -> what it must hold: `image`, `number`, `list` or `label`.
    """
    fits = {
        "image": is_image_type, "number": is_number_type, "list": is_series_type,
        "label": lambda kind: not is_image_type(kind),
    }  # fmt: skip
    told = {"image": "encoded images", "number": "numbers", "list": "lists of numbers", "label": "labels"}
    for file in (file for of_part in files.values() for file in of_part):
        schema = schema_of(file)
        absent = sorted(set(columns) - set(schema.names))
        listing = ", ".join(f"{name} ({kind})" for name, kind in described(schema).items())
        if absent:
            raise InputError(
                f"{file} has no column {' and '.join(absent)}, its columns are {listing}: give files with the same "
                "columns"
            )
        odd = [c for c, content in columns.items() if not fits[content](schema.field(c).type)]
        if odd:
            raise InputError(
                f"{file} has no {told[columns[odd[0]]]} in column {odd[0]}, as other files have, its columns are "
                f"{listing}: write all files with the same types"
            )


def coded_labels(files: Files, column: str) -> dict[str, list[Coded]]:
    """Labels of every file with the class names that it gives them."""
    return {
        part: [Coded(file.name, values_of(file, column), metadata_names(schema_of(file), column)) for file in of_part]
        for part, of_part in files.items()
    }


def metadata_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Class names as Hugging Face `ClassLabel` keeps them in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kind = features[label]
        return [str(name) for name in (kind if "names" in kind else kind["feature"])["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def number_column(file: Path, column: str) -> NDArray[np.generic]:
    """(N,) numbers of a column; a missing one is refused."""
    with open_file(file) as opened:
        values = opened.read(columns=[column]).column(0)
    if values.null_count:
        row = next(i for i, value in enumerate(values) if not value.is_valid)
        raise InputError(
            f"row {row} of {file} has no value in column {column}, expected a number: fill it in, or leave the column "
            "out of dataset.feature_columns"
        )
    found: NDArray[np.generic] = values.to_numpy()
    return found


def vector_column(file: Path, column: str) -> NDArray[np.generic]:
    """(N, D) values of a column of lists, all of one length."""
    with open_file(file) as opened:
        lists = opened.read(columns=[column]).column(0).combine_chunks()
    kind = lists.type
    if not is_list_type(kind):
        raise InputError(f"column {column} of {file} is {kind}, expected lists of floats: name another column")
    # A fixed-size list keeps room for a row that is missing; its length is that of every row.
    lengths = np.array([]) if lists.null_count else np.asarray(lists.value_lengths())
    if not len(lengths) or lengths.min() != lengths.max():
        odd = "a row without a list" if lists.null_count else f"{len(np.unique(lengths))} lengths"
        raise InputError(
            f"column {column} of {file} has lists of different lengths ({odd}), expected one length: write it again"
        )
    values = lists.flatten()
    if values.null_count:
        raise InputError(f"column {column} of {file} has lists with missing values, expected numbers: fill them in")
    found: NDArray[np.generic] = values.to_numpy(zero_copy_only=False).reshape(len(lists), int(lengths[0]))
    return found
