"""Partitions of arrays and of files, labels, and the checks that every dataset passes before anything slow starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from probe.base import Dataset, IntArray, Partition, digest
from probe.errors import InputError
from probe.files import file_digests
from probe.hashing import hash_arrays, hash_bytes
from probe.images import read_image
from probe.subsets import subset
from probe.targets import encode_targets, holds_targets, strata, target_faults

IGNORED = np.iinfo(np.int64).min
"""Code of rows whose label is to be ignored; `make_dataset` leaves these rows out."""


class ArrayPartition:
    """Rows of one array: vectors (N, D), or images as uint8 (N, H, W) greyscale or (N, H, W, 3) RGB."""

    def __init__(self, rows: NDArray[Any], labels: ArrayLike, ids: Sequence[str]):
        self.rows = rows
        self.labels: IntArray = np.asarray(labels, dtype=np.int64)
        self.ids = list(ids)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of rows, labels and ids."""
        return hash_arrays({"rows": self.rows, "labels": self.labels, "ids": np.asarray(self.ids, dtype=np.str_)})

    def row_digests(self) -> list[str]:
        """Digest of each row's content: equal rows have equal ones."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        return [hash_bytes(np.ascontiguousarray(row).tobytes()) for row in self.rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Any:
        """A PIL image where rows are images, else a (D,) array."""
        value = self.rows[row]
        return Image.fromarray(np.ascontiguousarray(value)) if value.ndim > 1 else value


class ImageFiles:
    """Image files in a given order, decoded when asked for.

    The ids are the paths below the dataset's folder. The fingerprint is that of the files' contents, of labels, ids
    and order; see `probe.files` for how it is remembered.
    """

    def __init__(self, root: Path, ids: Sequence[str], labels: ArrayLike):
        self.root = root
        self.ids = list(ids)
        self.labels: IntArray = np.asarray(labels, dtype=np.int64)

    @cached_property
    def digests(self) -> list[str]:
        """Digest of each file's content."""
        return file_digests(self.root, self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of contents, labels and ids, in order."""
        return digest([self.ids, self.labels.tolist(), self.digests])

    def row_digests(self) -> list[str]:
        """Digest of each file's content: copies of a file have equal ones."""
        return self.digests

    def subset(self, rows: IntArray) -> ImageFiles:
        """Some of the files; the others are not read for its fingerprint."""
        return ImageFiles(self.root, [self.ids[row] for row in rows], self.labels[rows])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Image.Image:
        return read_image(self.root / self.ids[row], f"{self.root / self.ids[row]} (row {row})")


def encode_labels(
    raw: Mapping[str, Sequence[Any]],
    source: str,
    class_names: Sequence[str] | None = None,
    ignore_label: int | str | None = None,
) -> tuple[dict[str, IntArray], list[str]]:
    """Class codes of every partition, and the class names.

    Strings are classes in sorted order, or in the order of `class_names`; those that train lacks are refused. Numbers
    are class codes; without names they stand for themselves.

    Rows with several labels, given as lists or as columns of zeros and ones, get targets; see `encode_targets`.

    Args:
        raw: Labels of each partition, integers or strings.
        source: What the error calls the place where they stand, such as `column label`.
        class_names: In the order of the codes.
        ignore_label: A number or a name; its rows get `IGNORED`, and it is no class.
    """
    if holds_targets(raw):
        return encode_targets(raw, source, class_names, ignore_label)
    for part, values in raw.items():
        odd = next((i for i, value in enumerate(values) if not _is_label(value)), None)
        if odd is not None:
            raise InputError(
                f"row {odd} of {part} has the label {values[odd]!r} in {source}, expected a class number or a name: "
                "fill it in, or name another place for the labels"
            )
    skipped = None if ignore_label is None else str(ignore_label)
    if any(isinstance(value, str) for values in raw.values() for value in values):
        texts = {part: np.array([str(value) for value in values], dtype=object) for part, values in raw.items()}
        order = list(class_names or sorted(set(texts["train"]) - {skipped}))
        ignored = {part: values == skipped for part, values in texts.items()}
        _refuse_unknown({part: values[~ignored[part]] for part, values in texts.items()}, order, source)
        number = {name: code for code, name in enumerate(order)}
        codes = {p: np.array([number.get(v, -1) for v in vs], dtype=np.int64) for p, vs in texts.items()}
    else:
        codes = {part: np.array([int(value) for value in values], dtype=np.int64) for part, values in raw.items()}
        code = {name: k for k, name in enumerate(class_names or ())}.get(str(ignore_label), ignore_label)
        ignored = {part: values == code for part, values in codes.items()}
        highest = max((int(c[~ignored[part]].max(initial=0)) for part, c in codes.items()), default=0)
        order = list(class_names or [str(k) for k in range(highest + 1)])
    if skipped is None:
        return codes, order
    return _without_ignored(codes, order, ignored, f"{source} has no label {ignore_label!r}")


def _refuse_unknown(texts: Mapping[str, NDArray[Any]], names: Sequence[str], source: str) -> None:
    for part, values in texts.items():
        unknown = sorted(set(values) - set(names))
        if unknown:
            n = int(np.isin(values, unknown).sum())
            raise InputError(
                f"{n} rows of {part} have labels in {source} that are none of the {len(names)} classes of train "
                f"({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}): mend them, or leave such rows out "
                "with dataset.ignore_label"
            )


def labels_as_read(labels: NDArray[Any]) -> Any:
    """An array of labels as `encode_labels` takes it: a list, or the array itself where it has a column per label."""
    return labels if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1).tolist()


def label_columns(asked: str | Sequence[str] | None) -> list[str | None]:
    """The columns that a parameter `label_column` names; one None where it is to be found."""
    return [asked] if asked is None or isinstance(asked, str) else list(asked) or [None]


def join_columns(columns: Mapping[str, Sequence[Any]]) -> Any:
    """Labels of one column as they are; several columns, each a label that a row has or not, as an array (N, K)."""
    if len(columns) == 1:
        return next(iter(columns.values()))
    return np.stack([np.asarray(values) for values in columns.values()], axis=1)


def _without_ignored(
    codes: dict[str, IntArray], names: list[str], ignored: dict[str, NDArray[np.bool_]], absent: str
) -> tuple[dict[str, IntArray], list[str]]:
    """Codes and names without the label whose rows are marked; the codes above it move down by one."""
    marked = np.concatenate([codes[part][ignored[part]] for part in codes])
    if not len(marked):
        raise InputError(f"{absent}, expected one that some row has: mend or leave out dataset.ignore_label")
    code = int(marked[0])
    moved = {p: np.where(ignored[p], IGNORED, c - (c > code) * (0 <= code < len(names))) for p, c in codes.items()}
    return moved, [name for k, name in enumerate(names) if k != code]


def read_class_names(names: str | Sequence[str] | None) -> list[str] | None:
    """Class names as a list, or as a text file with one name per line."""
    if not isinstance(names, str):
        return None if names is None else [str(name) for name in names]
    path = Path(names).expanduser()
    if not path.is_file():
        raise InputError(
            f"class_names {names} is no file, expected a list or a text file with one name per line: give one"
        )
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def content_cut(digests: Sequence[str], labels: IntArray, fraction: float) -> NDArray[np.bool_]:
    """(N,) mask of test rows for a dataset without any: within each class, those with the lowest digests.

    Neither a seed nor the order of the rows moves the cut. Rows with equal digests stay together.
    """
    if not 0 < fraction < 1:
        raise InputError(f"test_fraction is {fraction}, expected a share between 0 and 1: set 0.5, say")
    labels = strata(labels)
    values = np.asarray(digests)
    test = np.zeros(len(values), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        last = np.sort(values[members])[max(round(len(members) * fraction), 1) - 1]
        test[members] = values[members] <= last
    return test


def count_duplicates(data: Dataset, test_on: Dataset | None = None) -> dict[str, int]:
    """Rows of every other partition whose exact content is a training row too: leakage.

    Args:
        data: Partitions whose rows have no digests are left out.
        test_on: Whose partition test takes the place of the own one.
    """
    parts = {**data.partitions, **({} if test_on is None else {"test": test_on.partitions["test"]})}
    digests = {part: p.row_digests() for part, p in parts.items() if hasattr(p, "row_digests")}
    train = set(digests.get("train", ())) - {""}
    return {part: sum(d in train for d in ds) for part, ds in digests.items() if part != "train"}


def _is_label(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value)) and float(value).is_integer()
    return isinstance(value, str | int | np.integer | np.bool_)


def _without_rows_ignored(partition: Partition) -> Partition:
    ignored = np.asarray(partition.labels) == IGNORED
    return subset(partition, np.flatnonzero(~ignored)) if ignored.any() else partition


def make_dataset(
    name: str,
    class_names: Sequence[str],
    partitions: Mapping[str, Partition],
    notes: Mapping[str, Any] | None = None,
) -> Dataset:
    """A dataset whose labels were checked, without the rows whose label is ignored.

    Raises:
        InputError: Everything that is wrong with it, in one sentence: fewer than two classes, a partition without
            rows, labels out of range, a class without a training row.
    """
    class_names = tuple(class_names)
    n_classes = len(class_names)
    partitions = {part: _without_rows_ignored(p) for part, p in partitions.items()}
    several = any(p.labels.ndim == 2 for p in partitions.values())
    faults: list[str] = []
    if n_classes < 2:
        faults.append(f"it has {n_classes} class{'' if n_classes == 1 else 'es'} ({', '.join(class_names)})")
    twice = sorted({c for c in class_names if class_names.count(c) > 1}) if len(set(class_names)) < n_classes else []
    if twice:
        faults.append(f"class name {twice[0]!r} stands for more than one class")
    for part in ("train", "test"):
        if part not in partitions:
            faults.append(f"it has no {part} partition, only {', '.join(partitions) or 'nothing'}")
    for part, partition in partitions.items():
        labels = partition.labels
        if several:
            faults += target_faults(part, labels, class_names)
            continue
        outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if len(labels) == 0:
            faults.append(f"{part} has no rows")
        elif len(outside):
            row = outside[0]
            faults.append(
                f"{part} has {len(outside)} labels out of range, the first is {labels[row]} in row {row} "
                f"({partition.ids[row]})"
            )
        elif part == "train":
            empty = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
            if len(empty):
                names = ", ".join(class_names[i] for i in empty[:3]) + (", ..." if len(empty) > 3 else "")
                faults.append(f"train ({len(labels)} rows) has no row of {len(empty)} of {n_classes} classes ({names})")
    if faults:
        raise InputError(
            f"dataset {name} cannot be used: {'; '.join(faults)}; expected at least 2 classes, labels from 0 to "
            f"{max(n_classes - 1, 1)} and a training row of every class: mend its labels or leave such classes out"
        )
    return Dataset(name, class_names, partitions, dict(notes or {}))
