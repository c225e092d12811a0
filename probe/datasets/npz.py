"""One .npz file with the arrays of all partitions, such as those of MedMNIST or of Keras."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.labels import encode_labels, labels_as_read, read_class_names, target_of
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import FACTS, know

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid")}
ROWS_KEYS = ("{}_images", "{}_features", "{}_data", "{}_x", "{}_X", "x_{}", "X_{}")
LABELS_KEYS = ("{}_labels", "{}_targets", "{}_y", "y_{}")


def load(
    path: str | None = None,
    name: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
) -> Dataset:
    """Reads pairs of arrays, `train_images` and `train_labels` or `x_train` and `y_train`; see `ROWS_KEYS`.

    Labels are (N,), or (N, K) zeros and ones where a row may have several. Rows are images, uint8 of shape (N, H, W),
    (N, H, W, 1) or (N, H, W, 3), or vectors, floats of shape (N, D), for `backbone=identity`. `train_groups`,
    `train_sessions` and `train_hardness`, where they are there, say more of each row, see
    `probe.datasets.shared.row_facts.FACTS`. The file
    is read into memory.

    Args:
        path: The file.
        name: How tables call the dataset; the file's stem by default.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
    """
    if path is None:
        raise InputError("dataset=npz needs a file, none is given: set dataset.path=<file.npz>")
    file = Path(path).expanduser()
    arrays = _arrays(file)
    found = {part: pair for part, words in PARTITIONS.items() if (pair := _pair(arrays, words))}
    if not {"train", "test"} <= found.keys():
        raise InputError(
            f"{file} has the arrays {', '.join(arrays) or 'none'}, expected train_images, train_labels, test_images "
            "and test_labels (or x_train, y_train, x_test, y_test): rename them"
        )
    rows = {part: _rows(file, arrays[keys[0]], keys[0]) for part, keys in found.items()}
    for part, (rows_key, labels_key) in found.items():
        labels = arrays[labels_key]
        if labels.ndim not in (1, 2) or len(labels) != len(rows[part]):
            raise InputError(
                f"{labels_key} of {file} has shape {labels.shape}, expected one label, or a column per label, for each "
                f"of the {len(rows[part])} rows of {rows_key}: mend the file"
            )
    raw = {part: labels_as_read(arrays[keys[1]]) for part, keys in found.items()}
    codes, names = encode_labels(raw, str(file), read_class_names(class_names), ignore_label)
    partitions = {
        p: know(ArrayPartition(rows[p], codes[p], [str(i) for i in range(len(rows[p]))]), _facts(arrays, p), p)
        for p in found
    }
    return make_dataset(name or file.stem, names, partitions, target=target_of(raw))


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no readable .npz of plain arrays ({error}): give one, without objects") from error


def _pair(arrays: dict[str, NDArray[Any]], words: Sequence[str]) -> tuple[str, str] | None:
    """Names of the rows and the labels of a partition."""

    def first(patterns: Sequence[str]) -> str | None:
        return next((key for w in words for p in patterns if (key := p.format(w)) in arrays), None)

    rows, labels = first(ROWS_KEYS), first(LABELS_KEYS)
    return (rows, labels) if rows and labels else None


def _facts(arrays: dict[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any] | None]:
    return {fact: next((arrays[k] for w in PARTITIONS[part] if (k := f"{w}_{fact}") in arrays), None) for fact in FACTS}


def _rows(file: Path, rows: NDArray[Any], key: str) -> NDArray[Any]:
    if rows.ndim == 4 and rows.shape[-1] == 1:
        rows = rows[..., 0]
    is_vectors = rows.ndim == 2 and rows.dtype.kind == "f"
    is_images = rows.dtype == np.uint8 and (rows.ndim == 3 or (rows.ndim == 4 and rows.shape[-1] == 3))
    if not (is_vectors or is_images):
        raise InputError(
            f"{key} of {file} is {rows.dtype} of shape {rows.shape}, expected uint8 images (N, H, W) or (N, H, W, 3), "
            "or float vectors (N, D): convert it"
        )
    return rows
