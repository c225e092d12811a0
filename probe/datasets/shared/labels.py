"""Labels as they stand in files, and the class codes that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets import Target
from probe.core.targets.labels import Labels, encode_targets, has_columns, holds_targets
from probe.core.targets.one_class import ONE_CLASS

IGNORED = np.iinfo(np.int64).min
"""Code of rows whose label is to be ignored; `make_dataset` leaves these rows out."""

Encoded = tuple[dict[str, IntArray], list[str], dict[str, NDArray[np.bool_]]]
"""Codes of each partition, names in their order, and which rows have the label to ignore."""


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
    if any(isinstance(value, str) for values in raw.values() for value in values):
        codes, order, ignored = _codes_of_names(raw, source, class_names, ignore_label)
    else:
        codes, order, ignored = _codes_of_numbers(raw, class_names, ignore_label)
    if ignore_label is None:
        return codes, order
    return _without_ignored(codes, order, ignored, f"{source} has no label {ignore_label!r}")


def target_of(raw: Mapping[str, Sequence[Any]]) -> Target:
    """What labels as they were read are: several per row where they are lists, or columns of zeros and ones."""
    return Labels() if holds_targets(raw) else ONE_CLASS


def _codes_of_names(raw: Mapping[str, Sequence[Any]], source: str, class_names: Any, ignore_label: Any) -> Encoded:
    skipped = None if ignore_label is None else str(ignore_label)
    texts = {part: np.array([str(value) for value in values], dtype=object) for part, values in raw.items()}
    order = list(class_names or sorted(set(texts["train"]) - {skipped}))
    ignored = {part: values == skipped for part, values in texts.items()}
    _refuse_unknown({part: values[~ignored[part]] for part, values in texts.items()}, order, source)
    number = {name: code for code, name in enumerate(order)}
    codes = {part: np.array([number.get(v, -1) for v in vs], dtype=np.int64) for part, vs in texts.items()}
    return codes, order, ignored


def _codes_of_numbers(raw: Mapping[str, Sequence[Any]], class_names: Any, ignore_label: Any) -> Encoded:
    codes = {part: np.array([int(value) for value in values], dtype=np.int64) for part, values in raw.items()}
    code = {name: k for k, name in enumerate(class_names or ())}.get(str(ignore_label), ignore_label)
    ignored = {part: values == code for part, values in codes.items()}
    highest = max((int(c[~ignored[part]].max(initial=0)) for part, c in codes.items()), default=0)
    return codes, list(class_names or [str(k) for k in range(highest + 1)]), ignored


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
    return labels if has_columns(labels) else labels.reshape(-1).tolist()


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


def _is_label(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value)) and float(value).is_integer()
    return isinstance(value, str | int | np.integer | np.bool_)
