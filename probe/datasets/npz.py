"""One .npz file with the arrays of all partitions, such as those of MedMNIST or of Keras."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.mask import Mask
from probe.datasets.shared.archives import read_arrays
from probe.datasets.shared.columns import Role, choose
from probe.datasets.shared.labels import labels_as_read, read_class_names
from probe.datasets.shared.mask_codes import LARGEST
from probe.datasets.shared.mask_images import Pairs, masks_of
from probe.datasets.shared.numbers import classes, numbers_asked
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import FACTS, know
from probe.datasets.shared.series_rows import SeriesPartition, check_gaps, of_array, sound

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid")}
ROWS = Role("rows", "rows_key", ("images", "series"), ("features", "data", "x", "X"), kind="arrays")
LABELS = Role("labels", "labels_key", ("labels",), ("targets", "y", "masks"), kind="arrays")


def load(
    path: str | None = None,
    name: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
    unknown_labels: bool = False,
    rows_key: str | None = None,
    labels_key: str | None = None,
    target_columns: str | Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    gaps: str = "refuse",
    ordered: bool = False,
) -> Dataset:
    """Reads pairs of arrays, `train_images` and `train_labels` or `x_train` and `y_train`; see `ROWS` and `LABELS`.

    Without any of train, test and validation `images` and `labels`, or `X` and `y`, are train, for protocols that draw
    test rows from it. Labels are (N,), or (N, K) zeros and ones where a row may have several. Rows are images, uint8 of
    shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), or vectors, floats of shape (N, D), for `backbone=identity`, or
    series, floats of shape (N, T, C), or numbers (N, T) or (N, T, C) called series. Where series differ in length,
    `train_lengths` says it, (N,), or the steps at their end are NaN.
    Images may have masks, whole numbers (N, H, W) called `train_masks`, in the place of labels; see the dataset masks.
    `train_groups`, `train_sessions` and `train_hardness`, where they are there, say more of each row, see
    `row_facts.FACTS`. The file is read into memory.

    Args:
        path: The file.
        name: How tables call the dataset; the file's stem by default.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1; of masks whose pixels count nowhere, 255
            by default.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        rows_key: What the arrays of rows are called beside the partition, such as `images` in `train_images`.
        labels_key: Likewise of the labels.
        target_columns: Likewise of numbers to predict, (N,) or (N, Q), one or several; labels are classes otherwise.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        gaps: What becomes of values (NaN) that are missing in a series: `refuse`, `interpolate` (the straight line
            between the values before and after in their channel, at the ends the nearest one) or `zero`.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
    """
    if path is None:
        raise InputError("dataset=npz needs a file, none is given: set dataset.path=<file.npz>")
    check_gaps(gaps)
    file = Path(path).expanduser()
    arrays = _arrays(file)
    asked = numbers_asked(
        target_columns, units, missing, labels_key=labels_key, class_names=class_names, ignore_label=ignore_label,
        map_labels=map_labels, unknown_labels=unknown_labels,
    )  # fmt: skip
    rows_of, labels_of, found = _pairs(file, list(arrays), rows_key, asked.columns[0] if asked else labels_key)
    lengths = {part: _place(arrays, part, "lengths") for part in found}
    first = arrays[rows_of["train"]]
    series = "series" in rows_of["train"].split("_") or (first.ndim == 3 and first.dtype.kind == "f")
    if series:
        steps = {part: arrays[key] if key else None for part, key in lengths.items()}
        every = {part: of_array(arrays[rows_of[part]], steps[part], rows_of[part], file) for part in found}
        rows: Mapping[str, Any] = sound(every, gaps, file)
    else:
        rows = {part: _rows(file, arrays[rows_of[part]], rows_of[part]) for part in found}
    if not asked and not series and arrays[labels_of["train"]].ndim == 3:
        masks = {part: arrays[labels_of[part]] for part in found}
        pairs = {part: _pair(file, rows[part], masks[part], labels_of[part]) for part in found}
        groups = {part: arrays[key] for part in found if (key := _place(arrays, part, "groups"))}
        return masks_of(
            name or file.stem, pairs, read_class_names(class_names), None,
            255 if ignore_label is None else ignore_label, None,
            finish=lambda part, partition: know(partition, {"groups": groups.get(part)}, part),
        )  # fmt: skip
    for part in found:
        labels = arrays[labels_of[part]]
        if labels.ndim not in (1, 2) or len(labels) != len(rows[part]):
            raise InputError(
                f"{labels_of[part]} of {file} has shape {labels.shape}, expected one label, or a column per label, for "
                f"each of the {len(rows[part])} rows of {rows_of[part]}: mend the file"
            )
    partitions, used = {}, {*rows_of.values(), *labels_of.values(), *(key for key in lengths.values() if series)}
    if asked:
        keys = {part: {column: _array_of(file, arrays, part, column) for column in asked.columns} for part in found}
        labelled = asked.read({part: {c: arrays[key] for c, key in keys[part].items()} for part in found}, file)
        used |= {key for of_part in keys.values() for key in of_part.values()}
    else:
        raw = {part: labels_as_read(arrays[labels_of[part]]) for part in found}
        labelled = classes(raw, str(file), read_class_names(class_names), ignore_label, map_labels, unknown_labels)
    for part in found:
        facts = {fact: _place(arrays, part, fact) for fact in FACTS}
        used |= {key for key in facts.values() if key}
        ids = [str(i) for i in range(len(rows[part]))]
        kind = SeriesPartition if series else ArrayPartition
        of_part = kind(rows[part], labelled.labels[part], ids, target=labelled.target)
        partitions[part] = know(of_part, {fact: arrays[key] for fact, key in facts.items() if key}, part)
    others = sorted(arrays.keys() - used)
    left_out = [f"{len(others)} arrays of {file.name} ({', '.join(others[:3])})"] if others else []
    return make_dataset(
        name or file.stem, labelled.names, partitions, target=labelled.target, left_out=left_out,
        rows="series" if series else None, ordered=ordered,
    )  # fmt: skip


def _pair(file: Path, rows: NDArray[Any], masks: NDArray[Any], key: str) -> Pairs:
    """The images and the masks of a partition."""
    if masks.ndim != 3 or masks.dtype.kind not in "iub" or len(masks) != len(rows) or rows.dtype != np.uint8:
        raise InputError(
            f"{key} of {file} is {masks.dtype} of shape {masks.shape}, expected masks of whole numbers (N, H, W), one "
            f"for each of {len(rows)} uint8 images: mend the file"
        )
    if masks.size and not 0 <= masks.min() <= masks.max() <= LARGEST:
        raise InputError(f"{key} of {file} runs from {masks.min()} to {masks.max()}, expected codes from 0 on: mend it")
    ids, nothing = [str(i) for i in range(len(rows))], np.zeros(len(rows), dtype=np.int64)
    narrow = masks.astype(np.uint8 if masks.max(initial=0) <= 255 else np.uint16)
    return Pairs(
        lambda labels: ArrayPartition(rows, labels, ids, target=Mask()),
        ArrayPartition(narrow, nothing, ids, images=True),
        lambda row: (rows.shape[2], rows.shape[1]),
        [file],
        key,
    )


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(file)
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no readable .npz of plain arrays ({error}): give one, without objects") from error


def _place(keys: Collection[str], part: str, what: str) -> str | None:
    """The array of a partition, such as `train_images` or `x_train`; a bare name where nothing has partitions."""
    forms = [form for word in PARTITIONS[part] for form in (f"{word}_{what}", f"{what}_{word}")]
    return next((form for form in forms if form in keys), what if part == "train" and what in keys else None)


def _array_of(file: Path, arrays: Mapping[str, Any], part: str, column: str) -> str:
    key = _place(arrays.keys(), part, column)
    if key is None:
        raise InputError(
            f"{file} has the arrays {', '.join(arrays)}, expected {part}_{column} with numbers to predict: add it, or "
            "take it out of dataset.target_columns"
        )
    return key


def _pairs(
    file: Path, keys: list[str], rows_key: str | None, labels_key: str | None
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Names of rows and of labels by partition, and the partitions: what train has, the others must have too."""
    chosen = []
    for role, asked in ((ROWS, rows_key), (LABELS, labels_key)):
        usual = (asked,) if asked else (*role.clear, *role.usual)
        there = {what: key for what in usual if (key := _place(keys, "train", what))}
        what = choose(role, file, there, asked)
        if what is None:
            raise InputError(
                f"{file} has the arrays {', '.join(keys) or 'none'}, expected train_images, train_labels and perhaps "
                "test_images and test_labels (or x_train, y_train, x_test, y_test): rename them, or set dataset."
                f"{role.parameter}"
            )
        chosen.append(what)
    places = {part: [_place(keys, part, what) for what in chosen] for part in PARTITIONS}
    for part, (rows, labels) in places.items():
        known = [k for role in (ROWS, LABELS) for what in (*role.clear, *role.usual) if (k := _place(keys, part, what))]
        if bool(rows) != bool(labels) or (known and not rows):
            raise InputError(
                f"{file} has {', '.join(known)} of {part}, expected {chosen[0]} and {chosen[1]} as train has: add what "
                "is missing, or take the rest out"
            )
    found = [part for part, (rows, _) in places.items() if rows]
    return {p: str(places[p][0]) for p in found}, {p: str(places[p][1]) for p in found}, found


def _rows(file: Path, rows: NDArray[Any], key: str) -> NDArray[Any]:
    if rows.ndim == 4 and rows.shape[-1] == 1:
        rows = rows[..., 0]
    is_vectors = rows.ndim == 2 and rows.dtype.kind == "f"
    is_images = rows.dtype == np.uint8 and (rows.ndim == 3 or (rows.ndim == 4 and rows.shape[-1] == 3))
    if not (is_vectors or is_images):
        raise InputError(
            f"{key} of {file} is {rows.dtype} of shape {rows.shape}, expected uint8 images (N, H, W) or (N, H, W, 3), "
            "float vectors (N, D), or float series (N, T, C): convert it"
        )
    return rows
