"""Datasets of what a program holds already: arrays, or torch datasets of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from probe.core.base import Dataset, Partition, digest
from probe.core.errors import InputError
from probe.core.given import plain
from probe.core.hashing import hash_bytes
from probe.core.rows import sort_of
from probe.core.targets import Target
from probe.core.targets.one_class import ONE_CLASS
from probe.core.texts import Text
from probe.datasets.shared.frames import unframed
from probe.datasets.shared.labels import labels_as_read, read_class_names
from probe.datasets.shared.numbers import Labelled, classes, numbers_asked
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import Facts, by_partition, know
from probe.datasets.shared.series_rows import SeriesPartition, check_gaps, given_series, sound
from probe.datasets.shared.text_rows import TextPartition

PARTITIONS = ("train", "test", "validation")
N_READ_TWICE = 8


class TorchRows:
    """Rows of a torch dataset of (row, label) pairs, read when they are asked for.

    Args:
        source: Anything with `len` and pairs by number.
        labels: Class codes (N,), or what another target says.
        digests: Of the content of each row.
        target: What a label is.
    """

    def __init__(self, source: Any, labels: ArrayLike, digests: Sequence[str], target: Target = ONE_CLASS):
        self.source, self._digests = source, list(digests)
        self.labels = target.held(labels)
        self.ids = [str(row) for row in range(len(self._digests))]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of rows, labels and ids."""
        return digest([self._digests, self.labels.tolist(), self.ids])

    def row_digests(self) -> list[str]:
        """Digest of each row's content: equal rows have equal ones."""
        return self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def __getitem__(self, row: int) -> Any:
        return as_row(self.source[row][0], f"row {row}")


def dataset_of(
    given: Mapping[str, Any],
    name: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
    unknown_labels: bool = False,
    target: str | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    gaps: str = "refuse",
    ordered: bool = False,
    groups: Facts = None,
    sessions: Facts = None,
    hardness: Facts = None,
) -> Dataset:
    """A dataset of what each partition is given as: a pair (X, y) of arrays, or a torch dataset of (row, label) pairs.

    Args:
        given: `train`, and perhaps `test` and `validation`. X holds float vectors (N, D), other numbers become such, or
            uint8 images (N, H, W) or (N, H, W, 3), or float series (N, T, C), or is a list of texts or of such series,
            or a data frame of numbers, a column per feature, which go by train's order of their names.
        name: How tables call it; by default `arrays`, `texts` or `rows` and the beginning of its fingerprint.
        class_names: In the order of the labels' numbers; a torch dataset may name them in `classes`, a y of train that
            is a data frame by its columns, one of ordered categories by these.
        ignore_label: A number or a name whose rows are left out.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        target: `number` where y (N,) or (N, Q) holds numbers to predict, whose columns `class_names` then names;
            labels are classes otherwise, whatever their dtype.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing (NaN), or `drop` their rows, which are counted.
        gaps: What becomes of values (NaN) that are missing in series, see `series_rows.sound`.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
        groups, sessions, hardness: What else is known of each row, (N,) of train, or such by partition; see
            `row_facts.FACTS`.
    """
    if target not in (None, "number"):
        raise InputError(f"target is {target!r}, expected number, or nothing for classes: give one of the two")
    if unknown := [part for part in given if part not in PARTITIONS]:
        raise InputError(f"dataset has the partitions {unknown}, expected train, test and validation: rename them")
    given, named = unframed(given, as_classes=target is None and class_names is None)
    pairs = {part: isinstance(value, tuple) for part, value in given.items()}
    read = {part: _arrays(v, part) if pairs[part] else _torch_rows(v, part) for part, v in given.items()}
    if "train" in given and class_names is None:
        class_names = named if pairs["train"] else _named_classes(given["train"])
    raw = {part: labels for part, (_, labels) in read.items()}
    check_gaps(gaps)
    series: dict[str, Any] = {part: rows for part, (rows, _) in read.items() if pairs[part] and _are_series(rows)}
    read |= {part: (rows, raw[part]) for part, rows in sound(series, gaps, "X").items()}
    if "train" not in raw:
        raise InputError(f"dataset has the partitions {list(raw)}, expected train among them: add it")
    columns = None if target is None else "y"
    numbers = numbers_asked(
        columns, units, missing, ignore_label=ignore_label, map_labels=map_labels, unknown_labels=unknown_labels
    )
    if numbers:
        labelled = _numbers(numbers.read({p: {"y": np.asarray(v)} for p, v in raw.items()}, "y"), class_names)
    else:
        labelled = classes(
            raw, "the labels given", read_class_names(class_names), ignore_label, map_labels, unknown_labels
        )
    partitions = {part: _partition(given[part], read[part][0], labelled, part) for part in given}
    known = {"groups": groups, "sessions": sessions, "hardness": hardness}
    for part, facts in by_partition(known, list(partitions)).items():
        know(partitions[part], facts, part)
    rows = sort_of(partitions["train"][0]) if len(partitions["train"]) else None
    kind = "texts" if rows == "texts" else "arrays" if all(pairs.values()) else "rows"
    own = digest({part: p.fingerprint for part, p in partitions.items()})[:6]
    return make_dataset(
        name or f"{kind}-{own}", labelled.names, partitions, target=labelled.target, rows=rows, ordered=ordered
    )


def as_row(value: Any, where: str) -> Any:
    """A row as backbones take it: a PIL image, or a vector of floats.

    Raises:
        InputError: It is neither, such as an image that a transform has made a tensor of.
    """
    if isinstance(value, Image.Image):
        return value
    array = np.asarray(value) if isinstance(value, np.ndarray) or hasattr(value, "numpy") else None
    if array is not None and array.ndim == 1 and array.dtype.kind == "f":
        return array
    if array is not None and _are_images(array[None]):
        return Image.fromarray(np.ascontiguousarray(array))
    shown = (
        type(value).__name__ if array is None else f"{type(value).__name__} of {array.dtype} and shape {array.shape}"
    )
    raise InputError(
        f"{where} of the dataset is a {shown}, expected a PIL image, a uint8 array (H, W) or (H, W, 3) or a vector of "
        "floats: give the dataset without its transform, the backbone has one of its own"
    )


def _are_images(rows: NDArray[Any]) -> bool:
    return rows.dtype == np.uint8 and (rows.ndim == 3 or (rows.ndim == 4 and rows.shape[-1] == 3))


def _are_series(rows: Any) -> bool:
    return isinstance(rows, list) and sort_of(next(iter(rows), None)) == "series"


def _texts(X: Any, part: str) -> list[str | Text] | None:
    """The rows of a partition where they are texts: a list of strings or `Text`, an array or a column of strings."""
    if isinstance(X, str):
        raise InputError(f"X of {part} is one text, expected a list of them: give ([...], y)")
    typed = isinstance(X, np.ndarray) and X.dtype.kind in "fiub"
    if typed or not hasattr(X, "__iter__") or not any(isinstance(row, str | Text) for row in X):
        return None
    rows = [str(row) if isinstance(row, np.str_) else row for row in X]
    odd = next((i for i, row in enumerate(rows) if not isinstance(row, str | Text)), None)
    if odd is not None:
        raise InputError(f"row {odd} of {part} is a {type(rows[odd]).__name__}, {rows[odd]!r:.40}, expected a text as "
                         "the others are: fill it in (an empty text will do), or leave the row out")  # fmt: skip
    return rows


def _arrays(pair: tuple[Any, ...], part: str) -> tuple[Any, Any]:
    """Rows and labels of a partition, checked."""
    if len(pair) != 2:
        raise InputError(f"{part} is a tuple of {len(pair)}, expected a pair (X, y): give both")
    X = pair[0] if isinstance(pair[0], str) else plain(pair[0], f"X of {part}", lazy=True)  # of a text `_texts` tells
    pair = X, plain(pair[1], f"y of {part}")
    if (texts := _texts(pair[0], part)) is not None:
        labels = np.asarray(pair[1])
        return texts, _as_many(labels, texts, part)
    if (series := given_series(pair[0])) is not None:
        return series, _as_many(np.asarray(pair[1]), series, part)
    rows, labels = (np.asarray(value) for value in pair)
    if rows.ndim == 2 and rows.dtype.kind in "iub":
        rows = rows.astype(np.float32)
    if rows.ndim == 4 and rows.shape[-1] == 1:
        rows = rows[..., 0]
    if not (_are_images(rows) or (rows.ndim == 2 and rows.dtype.kind == "f")):
        raise InputError(
            f"X of {part} is {rows.dtype} of shape {rows.shape}, expected vectors (N, D), float series (N, T, C), "
            "uint8 images (N, H, W) or (N, H, W, 3), or a list of texts: convert it"
        )
    return rows, _as_many(labels, rows, part)


def _as_many(labels: NDArray[Any], rows: Any, part: str) -> Any:
    if labels.ndim not in (1, 2) or len(labels) != len(rows):
        raise InputError(
            f"y of {part} has shape {labels.shape}, expected one for each of the {len(rows)} rows of X: give as many"
        )
    return labels_as_read(labels)


def _torch_rows(source: Any, part: str) -> tuple[list[str], Any]:
    """Digest of each row, and the labels, from one pass; rows that change from one reading to the next are refused."""
    if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")) or isinstance(source, str | bytes):
        raise InputError(
            f"{part} is a {type(source).__name__}, expected a pair (X, y) of arrays, or a torch dataset of (row, "
            "label) pairs that has a length: give one"
        )
    digests, labels = [], []
    for number in range(len(source)):
        try:
            row, label = source[number]
        except (TypeError, ValueError) as error:
            raise InputError(
                f"row {number} of {part} is no (row, label) pair ({error}): give a dataset of such"
            ) from error
        digests.append(_digest(as_row(row, f"row {number} of {part}")))
        labels.append(label.item() if getattr(label, "ndim", None) == 0 else label)
    for number, seen in enumerate(digests[:N_READ_TWICE]):
        if _digest(as_row(source[number][0], f"row {number} of {part}")) != seen:
            raise InputError(
                f"row {number} of {part} is another one each time it is read, expected rows that stay: give the "
                "dataset without its random transform"
            )
    columns = bool(labels) and getattr(labels[0], "ndim", 0) == 1
    return digests, np.stack([np.asarray(label) for label in labels]) if columns else labels


def _digest(row: Any) -> str:
    if isinstance(row, Image.Image):
        return hash_bytes(f"{row.mode} {row.size}".encode() + row.tobytes())
    return hash_bytes(f"{row.dtype} {row.shape}".encode() + np.ascontiguousarray(row).tobytes())


def _named_classes(source: Any) -> list[str] | None:
    names = getattr(source, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) and names else None


def _partition(given: Any, read: Any, labelled: Labelled, part: str) -> Partition:
    labels, target = labelled.labels[part], labelled.target
    if isinstance(given, tuple):
        kind = SeriesPartition if _are_series(read) else TextPartition if isinstance(read, list) else ArrayPartition
        return kind(read, labels, [str(row) for row in range(len(read))], target=target)
    return TorchRows(given, labels, read, target)


def _numbers(found: Labelled, names: str | Sequence[str] | None) -> Labelled:
    """The numbers under the names given."""
    given = [names] if isinstance(names, str) else list(names or found.names)
    if len(given) != len(found.names):
        raise InputError(f"class_names has {len(given)} names for {len(found.names)} columns of y: name each")
    return found._replace(names=given)
