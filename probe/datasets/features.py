"""Vectors and labels that someone else extracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, digest
from probe.core.errors import InputError
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes
from probe.datasets.shared.labels import encode_labels, labels_as_read, read_class_names, target_of
from probe.datasets.shared.partitions import ArrayPartition, make_dataset

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val")}
FEATURES_KEYS = ("features", "pooled", "embeddings", "X", "x")
LABELS_KEYS = ("labels", "label", "targets", "y")
SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet")


class FeaturesPartition(ArrayPartition):
    """Vectors of a file; the fingerprint is that of the files' contents, see `probe.core.files`."""

    def __init__(self, rows: NDArray[Any], labels: Any, ids: Sequence[str], files: Sequence[Path], keys: Sequence[str]):
        super().__init__(rows, labels, ids)
        self._files, self._keys = list(files), list(keys)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the files' contents, of the keys in use and of the labels as codes."""
        contents = file_digests(self._files[0].parent, [file.name for file in self._files])
        return digest([contents, self._keys, self.labels.tolist()])

    @cached_property
    def _row_digests(self) -> list[str]:
        return remembered(f"rows {self._keys}", self._files, lambda: [hash_bytes(row.tobytes()) for row in self.rows])

    def __getstate__(self) -> dict[str, Any]:
        # A memmap would be pickled by value, the whole file.
        return {**self.__dict__, "rows": None if isinstance(self.rows, np.memmap) else self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.rows is None:
            self.rows = np.load(self._files[0], mmap_mode="r", allow_pickle=False)


def load(
    path: str | None = None,
    name: str | None = None,
    features_key: str | None = None,
    labels_key: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
) -> Dataset:
    """Reads one file per partition, `train`, `test` and, optionally, `validation` or `val`; for `backbone=identity`.

    `train.npz` and `train.safetensors` hold an array of features (N, D) and one of labels (N,); `train.parquet` has a
    column of lists and one of labels; beside `train.npy` stands `train_labels.npy`, and it is read lazily. Features
    are float16, float32 or float64, labels numbers or, where the format has them, strings; or (N, K) zeros and ones
    where a row may have several.

    Args:
        path: The folder.
        name: How tables call the dataset; the folder's name by default.
        features_key: Array or column of features; the first of `FEATURES_KEYS` that is there by default.
        labels_key: Array or column of labels; the first of `LABELS_KEYS` that is there by default.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
    """
    if path is None:
        raise InputError(
            "dataset=features needs a folder, none is given: set dataset.path=<folder with train.npz, ...>"
        )
    root = Path(path).expanduser()
    files = _files(root)
    content = {part: _read(file, features_key, labels_key) for part, file in files.items()}
    for part, (rows, labels, _) in content.items():
        _check(files[part], rows, labels, width=content["train"][0].shape[-1])
    raw = {part: labels_as_read(labels) for part, (_, labels, _) in content.items()}
    codes, names = encode_labels(raw, "labels", read_class_names(class_names), ignore_label)
    partitions = {}
    for part, (rows, _, keys) in content.items():
        sources = [files[part], *([_labels_file(files[part])] if files[part].suffix == ".npy" else [])]
        partitions[part] = FeaturesPartition(rows, codes[part], [str(i) for i in range(len(rows))], sources, keys)
    return make_dataset(name or root.resolve().name, names, partitions, target=target_of(raw))


def _files(root: Path) -> dict[str, Path]:
    found = {}
    for part, stems in PARTITIONS.items():
        fitting = [f for stem in stems for s in SUFFIXES if (f := root / f"{stem}{s}").is_file()]
        if len(fitting) > 1:
            raise InputError(
                f"{root} has {' and '.join(f.name for f in fitting)}, expected one of them: remove the rest"
            )
        if fitting:
            found[part] = fitting[0]
    if not {"train", "test"} <= found.keys():
        there = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
        raise InputError(
            f"{root} has {', '.join(there[:10]) or 'nothing'}, expected train and test as {', '.join(SUFFIXES)}: "
            "give the folder that holds them"
        )
    return found


def _labels_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}_labels.npy")


def _read(file: Path, features_key: str | None, labels_key: str | None) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Features, labels and the keys under which they stood."""
    try:
        if file.suffix == ".npy":
            return _read_npy(file)
        if file.suffix == ".parquet":
            return _read_parquet(file, features_key, labels_key)
        arrays: Mapping[str, Any]
        if file.suffix == ".npz":
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
        else:
            from safetensors.numpy import load_file

            arrays = load_file(file)
    except InputError:
        raise
    except Exception as error:
        # Each library has exceptions of its own for damaged files and for dtypes that numpy lacks.
        raise InputError(
            f"{file} cannot be read ({error}), expected plain numbers without pickled objects: write it again"
        ) from error
    keys = [_key(file, list(arrays), features_key, FEATURES_KEYS), _key(file, list(arrays), labels_key, LABELS_KEYS)]
    return arrays[keys[0]], arrays[keys[1]], keys


def _read_npy(file: Path) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    if not _labels_file(file).is_file():
        raise InputError(f"{file} has no labels beside it, expected {_labels_file(file).name}: add it")
    labels = np.load(_labels_file(file), allow_pickle=False)
    return np.load(file, mmap_mode="r", allow_pickle=False), labels, []


def _read_parquet(
    file: Path, features_key: str | None, labels_key: str | None
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    import pyarrow.parquet as pq

    columns = pq.read_schema(file).names
    keys = [_key(file, columns, features_key, FEATURES_KEYS), _key(file, columns, labels_key, LABELS_KEYS)]
    table = pq.read_table(file, columns=keys)
    lists = table.column(keys[0]).combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    if len(lists) == 0 or lists.null_count or len(values) % len(lists):
        raise InputError(
            f"column {keys[0]} of {file} has lists of different lengths, expected one length: write it again"
        )
    return values.reshape(len(lists), -1), np.asarray(table.column(keys[1]).to_pylist(), dtype=object), keys


def _key(file: Path, there: Sequence[str], asked: str | None, usual: Sequence[str]) -> str:
    found = next((key for key in ((asked,) if asked else usual) if key in there), None)
    if found is None:
        raise InputError(
            f"{file} has {', '.join(there) or 'nothing'}, expected {asked or ' or '.join(usual)}: set "
            "dataset.features_key and dataset.labels_key to what it has"
        )
    return found


def _check(file: Path, rows: Any, labels: Any, width: int) -> None:
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise InputError(
            f"features of {file} are {rows.dtype} of shape {rows.shape}, expected floats of shape (rows, width): "
            "convert them"
        )
    if labels.ndim not in (1, 2) or len(labels) != len(rows):
        raise InputError(
            f"labels of {file} have shape {labels.shape}, expected one, or a column per label, for each of its "
            f"{len(rows)} rows: mend the file"
        )
    if rows.shape[1] != width:
        raise InputError(
            f"features of {file} have width {rows.shape[1]}, those of train {width}: extract both with one backbone"
        )
