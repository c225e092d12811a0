"""Labels as they stand in files, and the class codes that are made of them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets import DECLARE_NUMBERS, Target
from probe.core.targets import IGNORED as IGNORED
from probe.core.targets.labels import Labels, encode_targets, has_columns, holds_targets
from probe.core.targets.one_class import ONE_CLASS
from probe.core.texts import one_spelling, read_text
from probe.core.words import counted

NUMBER = re.compile(r"-?[0-9]{1,18}")
"""What int64 holds; longer rows of digits are names."""

Encoded = tuple[dict[str, IntArray], list[str], dict[str, NDArray[np.bool_]]]
"""Codes of each partition, names in their order, and which rows have the label to ignore."""


def encode_labels(
    raw: Mapping[str, Sequence[Any]],
    source: str,
    class_names: Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
    unknown_labels: bool = False,
) -> tuple[dict[str, IntArray], list[str]]:
    """Class codes of every partition, and the class names.

    Strings are classes in sorted order, or in the order of `class_names`; those that train lacks are refused. Numbers
    are class codes, from 0 on without gaps; without names they stand for themselves.

    Rows with several labels, given as lists or as columns of zeros and ones, get targets; see `encode_targets`.

    Args:
        raw: Labels of each partition, integers or strings.
        source: What the error calls the place where they stand, such as `column label`.
        class_names: In the order of the codes.
        ignore_label: A number or a name; its rows get `IGNORED`, and it is no class.
        map_labels: Whether numbers may be any: those of train become codes in ascending order.
        unknown_labels: Whether labels in a column each may be unknown, see `encode_targets`.
    """
    if holds_targets(raw):
        raw, class_names = _lists_in_order(raw, source, class_names, map_labels)
        return encode_targets(raw, source, class_names, ignore_label, unknown_labels)
    if unknown_labels:
        raise InputError(
            f"dataset.unknown_labels is about several labels per row, {source} has one class in each: name a column "
            "for each label, or leave rows out with dataset.ignore_label"
        )
    for part, values in raw.items():
        odd = next((i for i, value in enumerate(values) if not _is_label(value)), None)
        if odd is not None:
            declare = f"; {DECLARE_NUMBERS}" if _is_number(values[odd]) else ""
            raise InputError(
                f"row {odd} of {part} has the label {values[odd]!r} in {source}, expected a class number or a name: "
                f"fill it in, or name another place for the labels{declare}"
            )
    if _are_names((value for values in raw.values() for value in values), source):
        codes, order, ignored = _codes_of_names(raw, source, class_names, ignore_label)
    else:
        codes, order, ignored = _codes_of_numbers(raw, source, class_names, ignore_label, map_labels)
    if ignore_label is None:
        return codes, order
    return _without_ignored(codes, order, ignored, f"{source} has no label {ignore_label!r}")


def target_of(raw: Mapping[str, Sequence[Any]]) -> Target:
    """What labels as they were read are: several per row where they are lists, or columns of zeros and ones."""
    return Labels() if holds_targets(raw) else ONE_CLASS


def _are_names(values: Iterable[Any], source: str) -> bool:
    """Whether labels are names and not numbers; both among each other are refused."""
    examples: dict[bool, Any] = {}
    for value in values:
        examples.setdefault(isinstance(value, str), value)
    if len(examples) == 2:
        raise InputError(
            f"some labels in {source} are names ({examples[True]!r}) and some are numbers ({examples[False]!r}), "
            "expected one kind: write all of them alike"
        )
    return True in examples


def _codes_of_names(raw: Mapping[str, Sequence[str]], source: str, class_names: Any, ignore_label: Any) -> Encoded:
    skipped = None if ignore_label is None else one_spelling(str(ignore_label))
    texts = {part: np.array([one_spelling(v) for v in values], dtype=object) for part, values in raw.items()}
    order = list(class_names or _spellings(raw["train"], skipped))
    number = {one_spelling(name): code for code, name in enumerate(order)}
    ignored = {part: values == skipped for part, values in texts.items()}
    _refuse_unknown({part: values[~ignored[part]] for part, values in texts.items()}, number, source)
    codes = {part: np.array([number.get(v, -1) for v in vs], dtype=np.int64) for part, vs in texts.items()}
    return codes, order, ignored


def _spellings(names: Iterable[str], skipped: str | None = None) -> list[str]:
    """The names, sorted; of two spellings of one name the first."""
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        found.setdefault(one_spelling(name), name)
    return [name for spelling, name in found.items() if spelling != skipped]


def _codes_of_numbers(
    raw: Mapping[str, Sequence[Any]], source: str, class_names: Any, ignore_label: Any, map_labels: bool
) -> Encoded:
    values = {part: _whole(labels, part, source) for part, labels in raw.items()}
    by_name = {} if map_labels else {name: k for k, name in enumerate(class_names or ())}
    code = by_name.get(str(ignore_label), ignore_label)
    ignored = {part: v == code for part, v in values.items()}
    numbers = np.unique(values["train"][~ignored["train"]])
    if map_labels:
        # Rows to ignore keep no code, whatever their number is.
        values = {part: _mapped(v, ignored[part], numbers, part, source) for part, v in values.items()}
        _check_number_of_names(class_names, numbers, source)
        return values, list(class_names or map(str, numbers)), ignored
    if class_names is None and isinstance(code, int) and len(numbers) and 0 <= code < numbers[-1]:
        numbers = np.union1d(numbers, [code])
    names = list(class_names or map(str, range(len(numbers))))
    declare = f"; {DECLARE_NUMBERS}" if any(map(_is_number, raw["train"][:1])) else ""
    for part, v in values.items():
        _refuse_outside(v, ignored[part], part, numbers, len(names), source, declare)
    return values, names, ignored


def _whole(labels: Sequence[Any], part: str, source: str) -> IntArray:
    try:
        return np.array([int(label) for label in labels], dtype=np.int64)
    except OverflowError as error:
        row = next(i for i, label in enumerate(labels) if not abs(int(label)) < 2**63)
        raise InputError(
            f"row {row} of {part} has the label {labels[row]} in {source}, expected a number of 64 bits: write such "
            "labels as text, which makes them names"
        ) from error


def _mapped(v: IntArray, ignored: NDArray[np.bool_], numbers: IntArray, part: str, source: str) -> IntArray:
    codes = np.searchsorted(numbers, v).clip(max=max(len(numbers) - 1, 0))
    unknown = np.flatnonzero(~ignored & ~np.isin(v, numbers))
    if len(unknown):
        raise InputError(
            f"{part} has {counted(len(unknown), 'row')} with labels in {source} that no row of train has, the first is "
            f"{v[unknown[0]]} in row {unknown[0]}: mend them, or leave such rows out with dataset.ignore_label"
        )
    return np.where(ignored, -1, codes).astype(np.int64)


def _check_number_of_names(class_names: Sequence[str] | None, numbers: IntArray, source: str) -> None:
    if class_names is not None and len(class_names) != len(numbers):
        raise InputError(
            f"dataset.class_names has {len(class_names)} names and train {len(numbers)} labels in {source} "
            f"({_listed(numbers)}), expected a name for each, in ascending order: mend the names"
        )


def _refuse_outside(
    v: IntArray, ignored: NDArray[np.bool_], part: str, numbers: IntArray, n_classes: int, source: str, more: str = ""
) -> None:
    outside = np.flatnonzero(~ignored & ((v < 0) | (v >= n_classes)))
    if len(outside):
        raise InputError(
            f"{part} has {counted(len(outside), 'label')} out of range, the first is {v[outside[0]]} in row "
            f"{outside[0]}, in "
            f"{source}: the labels of train are {_listed(numbers)}, expected 0 to {n_classes - 1}, each there: set "
            "dataset.map_labels=true to take them in ascending order as they are, or leave rows out with "
            f"dataset.ignore_label{more}"
        )


def _listed(numbers: IntArray) -> str:
    texts = [str(number) for number in numbers]
    return ", ".join(texts if len(texts) <= 5 else [*texts[:3], "...", texts[-1]])


def _refuse_unknown(texts: Mapping[str, NDArray[Any]], names: Mapping[str, int], source: str) -> None:
    for part, values in texts.items():
        unknown = sorted(set(values) - names.keys())
        if unknown:
            n = int(np.isin(values, unknown).sum())
            raise InputError(
                f"{part} has {counted(n, 'row')} with labels in {source} that are none of the {len(names)} classes of "
                f"train ({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}): mend them, or leave such rows "
                "out with dataset.ignore_label"
            )


def _lists_in_order(
    raw: Mapping[str, Any], source: str, class_names: Sequence[str] | None, map_labels: bool
) -> tuple[Mapping[str, Any], Sequence[str] | None]:
    """Lists of labels, each label once, in one spelling or numbered without gaps; arrays and odd rows as they are."""
    if any(isinstance(rows, np.ndarray) for rows in raw.values()):
        return raw, class_names
    lists = {part: [labels for labels in rows if isinstance(labels, list | tuple)] for part, rows in raw.items()}
    for part, rows in raw.items():
        for row, labels in enumerate(rows):
            _check_list(labels, f"row {row} of {part}", source)
    known = {label for labels in lists["train"] for label in labels}
    if _are_names((label for of_part in lists.values() for labels in of_part for label in labels), source):
        shown = {one_spelling(name): name for name in class_names or _spellings(known)}
        return _renamed(raw, lambda name: shown.get(one_spelling(name), name)), class_names
    numbers = np.unique(_whole(sorted(known), "train", source))
    if map_labels:
        _check_number_of_names(class_names, numbers, source)
        code = {int(number): k for k, number in enumerate(numbers)}
        names = list(class_names or map(str, numbers))
        # Labels that train lacks go where no column is, for `encode_targets` to refuse.
        return _renamed(raw, lambda number: code.get(int(number), len(names))), names
    if class_names is None:
        _refuse_outside(numbers, np.zeros(len(numbers), bool), "train", numbers, len(numbers), source)
    return raw, class_names


def _renamed(raw: Mapping[str, Any], name: Any) -> dict[str, Any]:
    return {
        part: [[name(label) for label in labels] if isinstance(labels, list | tuple) else labels for labels in rows]
        for part, rows in raw.items()
    }


def _check_list(labels: Any, row: str, source: str) -> None:
    if not isinstance(labels, list | tuple):
        return  # `encode_targets` names it
    odd = [label for label in labels if not _is_label(label)]
    if odd:
        raise InputError(f"{row} has the label {odd[0]!r} in {source}, expected class numbers or names: mend it")
    if len(set(labels)) < len(labels):
        raise InputError(
            f"{row} has the list {labels} in {source}, which names a label twice, expected the labels of the row: "
            "write a vector of zeros and ones as several columns, named in dataset.label_column=[...]"
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


def numbers_or_names(texts: Iterable[str]) -> type[int] | type[str]:
    """What labels that stand as text are: class numbers where all of them are whole numbers, else names."""
    return int if all(NUMBER.fullmatch(text) for text in texts) else str


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


def read_class_names(names: str | Sequence[str] | None, encoding: str | None = None) -> list[str] | None:
    """Class names as a list, or as a text file with one name per line."""
    if not isinstance(names, str):
        return None if names is None else [str(name) for name in names]
    path = Path(names).expanduser()
    if not path.is_file():
        raise InputError(
            f"class_names {names} is no file, expected a list or a text file with one name per line: give one"
        )
    text = read_text(path, encoding, "save it as UTF-8, or give dataset.class_names as a list")
    return [line.strip() for line in io.StringIO(text, newline=None) if line.strip()]


def _is_number(value: Any) -> bool:
    """Whether a label stands as a real number."""
    return isinstance(value, float | np.floating) and bool(np.isfinite(value))


def _is_label(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value)) and float(value).is_integer()
    return isinstance(value, str | int | np.integer | np.bool_)
