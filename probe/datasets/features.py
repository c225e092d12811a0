"""Vectors and labels that someone else extracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, digest
from probe.core.errors import InputError
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes
from probe.core.targets import Target
from probe.core.targets.one_class import ONE_CLASS
from probe.datasets.shared.archives import read_arrays
from probe.datasets.shared.columns import Role, required
from probe.datasets.shared.dictionaries import Coded, one_dictionary
from probe.datasets.shared.labels import labels_as_read, read_class_names
from probe.datasets.shared.numbers import Labelled, classes, numbers_asked
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.sources import holds, unused_files

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val")}
FEATURES = Role("features", "features_key", ("features",), ("pooled", "embeddings", "X", "x"), kind="arrays")
LABELS = Role("labels", "labels_key", ("labels", "label"), ("targets", "y"), kind="arrays")
SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet")


class FeaturesPartition(ArrayPartition):
    """Vectors of a file; the fingerprint is that of the files' contents, see `probe.core.files`."""

    def __init__(
        self,
        rows: NDArray[Any],
        labels: Any,
        ids: Sequence[str],
        files: Sequence[Path],
        keys: Sequence[str],
        target: Target = ONE_CLASS,
    ):
        super().__init__(rows, labels, ids, target=target)
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
    map_labels: bool = False,
    unknown_labels: bool = False,
    target_columns: str | Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    ordered: bool = False,
) -> Dataset:
    """Reads one file per partition, `train` and, optionally, `test` and `validation` or `val`; for `backbone=identity`.

    A single file is train, for protocols that draw test rows from it.
    `train.npz` and `train.safetensors` hold an array of features (N, D) and one of labels (N,); `train.parquet` has a
    column of lists and one of labels; beside `train.npy` stands `train_labels.npy`, and it is read lazily. Features
    are float16, float32 or float64, labels numbers or, where the format has them, strings; or (N, K) zeros and ones
    where a row may have several.

    Args:
        path: The folder, or the only file.
        name: How tables call the dataset; the folder's name by default.
        features_key: Array or column of features; by default the one of the names in `FEATURES` that train has.
        labels_key: Array or column of labels; by default the one of the names in `LABELS` that train has.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        target_columns: Array or column that holds numbers to predict, or several; labels are classes otherwise.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
    """
    if path is None:
        raise InputError(
            "dataset=features needs a folder, none is given: set dataset.path=<folder with train.npz, ...>"
        )
    root = Path(path).expanduser()
    files, left_out = _files(root)
    # Train chooses the keys; what other files call otherwise would be something else.
    asked = numbers_asked(
        target_columns, units, missing, labels_key=labels_key, class_names=class_names, ignore_label=ignore_label,
        map_labels=map_labels, unknown_labels=unknown_labels,
    )  # fmt: skip
    wanted = list(asked.columns) if asked else [labels_key]
    first = _read(files["train"], features_key, wanted)
    keys: Sequence[str | None] = first.keys or [features_key, *wanted]
    content = {part: first if part == "train" else _read(file, keys[0], keys[1:]) for part, file in files.items()}
    for part, found in content.items():
        _check(files[part], found.rows, found.labels, width=first.rows.shape[-1])
    if asked:
        labelled = asked.read(
            {part: dict(zip(asked.columns, c.labels, strict=True)) for part, c in content.items()}, root
        )
    else:
        labelled = _classes(
            {p: (files[p].name, c) for p, c in content.items()}, class_names, ignore_label, map_labels, unknown_labels
        )
    partitions = {}
    for part, (rows, _, keys_of, _) in content.items():
        sources = [files[part], *([_labels_file(files[part])] if files[part].suffix == ".npy" else [])]
        ids = [str(i) for i in range(len(rows))]
        partitions[part] = FeaturesPartition(rows, labelled.labels[part], ids, sources, keys_of, labelled.target)
    called = name or (root.stem if root.is_file() else root.resolve().name)
    return make_dataset(
        called, labelled.names, partitions, target=labelled.target, left_out=left_out, rows="vectors", ordered=ordered
    )


class Content(NamedTuple):
    """Features and the labels asked for of a file, under which keys they stood, and what it calls its codes."""

    rows: NDArray[Any]
    labels: list[NDArray[Any]]
    keys: list[str]
    names: list[str] | None = None


def _files(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The file of each partition, and what is left out."""
    if root.is_file() and root.suffix in SUFFIXES:
        return {"train": root}, []
    found = {}
    for part, stems in PARTITIONS.items():
        fitting = [f for stem in stems for s in SUFFIXES if (f := root / f"{stem}{s}").is_file()]
        if len(fitting) > 1:
            raise InputError(
                f"{root} has {' and '.join(f.name for f in fitting)}, expected one of them: remove the rest"
            )
        if fitting:
            found[part] = fitting[0]
    if "train" not in found:
        raise InputError(
            f"{holds(root)}, expected train and test as {', '.join(SUFFIXES)}: give the folder that "
            "holds them, or the only file"
        )
    used = [*found.values(), *map(_labels_file, found.values())]
    return found, [p for s in SUFFIXES for p in unused_files(root, used, f"*{s}", "named for no partition")]


def _labels_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}_labels.npy")


def _classes(content: Mapping[str, tuple[str, Content]], class_names: Any, *how: Any) -> Labelled:
    """Labels that are classes, of each partition with the name of its file."""
    raw = {part: labels_as_read(c.labels[0]) for part, (_, c) in content.items()}
    if all(isinstance(labels, list) for labels in raw.values()):  # codes, and not a column per label
        coded = {part: [Coded(file, raw[part], c.names)] for part, (file, c) in content.items()}
        raw = one_dictionary(coded, "labels", declared=class_names is not None).values
    return classes(raw, "labels", read_class_names(class_names), *how)


def _read(file: Path, features_key: str | None, wanted: Sequence[str | None]) -> Content:
    try:
        if file.suffix == ".npy":
            return _read_npy(file, wanted)
        if file.suffix == ".parquet":
            return _read_parquet(file, features_key, wanted)
        arrays: Mapping[str, Any]
        if file.suffix == ".npz":
            arrays = read_arrays(file)
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
    there = dict.fromkeys(arrays, "")
    keys = [required(FEATURES, file, there, features_key), *(required(LABELS, file, there, key) for key in wanted)]
    return Content(arrays[keys[0]], [arrays[key] for key in keys[1:]], keys)


def _read_npy(file: Path, wanted: Sequence[str | None]) -> Content:
    if not _labels_file(file).is_file():
        raise InputError(f"{file} has no labels beside it, expected {_labels_file(file).name}: add it")
    labels = np.load(_labels_file(file), allow_pickle=False)
    columns = [labels] if len(wanted) == 1 else list(labels.T)
    if len(columns) != len(wanted):
        raise InputError(
            f"{_labels_file(file)} has {len(columns)} columns, dataset.target_columns names {len(wanted)}: name each"
        )
    return Content(np.load(file, mmap_mode="r", allow_pickle=False), columns, [])


def _read_parquet(file: Path, features_key: str | None, wanted: Sequence[str | None]) -> Content:
    from probe.datasets.shared import parquet_files

    schema = parquet_files.schema_of(file)
    there = parquet_files.described(schema)
    keys = [required(FEATURES, file, there, features_key), *(required(LABELS, file, there, key) for key in wanted)]
    labels = [_values(file, key) for key in keys[1:]]
    names = parquet_files.metadata_names(schema, keys[1])
    return Content(parquet_files.vector_column(file, keys[0]), labels, keys, names)


def _values(file: Path, key: str) -> NDArray[Any]:
    from probe.datasets.shared import parquet_files

    values = parquet_files.values_of(file, key)
    labels = np.asarray(values, dtype=object)
    if labels.ndim > 1 and not np.isin(labels, (0, 1)).all():  # lists of labels that happen to be of one length
        labels = np.fromiter(values, dtype=object, count=len(values))
    return labels


def _check(file: Path, rows: Any, several: Sequence[Any], width: int) -> None:
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise InputError(
            f"features of {file} are {rows.dtype} of shape {rows.shape}, expected floats of shape (rows, width): "
            "convert them"
        )
    for labels in (found for found in several if found.ndim not in (1, 2) or len(found) != len(rows)):
        raise InputError(
            f"labels of {file} have shape {labels.shape}, expected one, or a column per label, for each of its "
            f"{len(rows)} rows: mend the file"
        )
    if rows.shape[1] != width:
        raise InputError(
            f"features of {file} have width {rows.shape[1]}, those of train {width}: extract both with one backbone"
        )
