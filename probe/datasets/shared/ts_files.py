"""`.ts` files, in which the archives of UCR and UEA keep series: a header, then a series and its label on each line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.texts import read_text
from probe.datasets.shared.sources import unused_files

OF_PARTITION = re.compile(r"(.+)_(train|test)\.ts", re.IGNORECASE)
MISSING = "?"


class TsFile(NamedTuple):
    """What a file holds.

    Attributes:
        rows: Series (T, C) in float64, NaN where a value is missing.
        labels: What stands behind the last colon of each line; empty where it is missing.
        classes: Names that the header gives; None where labels are numbers to predict.
    """

    rows: list[NDArray[np.float64]]
    labels: list[str]
    classes: list[str] | None


def files_of(path: Path) -> tuple[dict[str, Path], str, list[str]]:
    """The file of each partition, what the set is called, and what of a folder is left out.

    `<name>_TRAIN.ts` has its test rows in `<name>_TEST.ts` beside it, where that is there. Of a folder with several
    sets the one that is called as the folder is counts.
    """
    if path.is_file() and not OF_PARTITION.fullmatch(path.name):
        return {"train": path}, path.stem, []
    folder = path.parent if path.is_file() else path
    sets: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if found := OF_PARTITION.fullmatch(file.name):
            sets.setdefault(found[1], {})[found[2].lower()] = file
    sets = {name: {"train": files.pop("train"), **files} for name, files in sets.items() if "train" in files}
    if path.is_file():
        sets = {name: files for name, files in sets.items() if path in files.values()}
    chosen = next(iter(sets), "") if len(sets) == 1 else folder.resolve().name
    if chosen in sets:
        used = sets[chosen].values()
        return sets[chosen], chosen, unused_files(folder, list(used), "*.ts", "of other sets") * path.is_dir()
    if sets:
        raise InputError(
            f"{folder} holds {len(sets)} sets ({', '.join(sets)}), expected one, or one that is called as the folder: "
            f"set dataset.path to the first file of one, such as {next(iter(sets.values()))['train']}"
        )
    raise InputError(
        f"{path} is no .ts file and no folder with <name>_TRAIN.ts and perhaps <name>_TEST.ts: give the path of one"
    )


def read_ts(file: Path, encoding: str | None = None) -> TsFile:
    """The series of a file and their labels.

    Raises:
        InputError: No such file, or a line that does not say what it should, by its number.
    """
    text = read_text(file, encoding, "set dataset.encoding, such as latin-1, or save it as UTF-8")
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    lines = ((number, line) for number, line in lines if line and line[0] not in "#%")
    header = _header(lines, file)
    if header.get("timestamps", ["false"])[0].lower() == "true":
        raise InputError(
            f"{file} has a time with every value (@timeStamps true), expected values alone: write them at even steps, "
            "without times"
        )
    label = header.get("classlabel", ["false"])
    is_number = header.get("targetlabel", ["false"])[0].lower() == "true"
    if not is_number and label[0].lower() != "true":
        raise InputError(f"{file} has no labels, expected @classLabel true <names> or @targetLabel true: add them")
    rows, labels = _rows(lines, file)
    return TsFile(rows, labels, None if is_number else list(label[1:]))


def _header(lines: Iterator[tuple[int, str]], file: Path) -> Mapping[str, Sequence[str]]:
    """Words behind each key, up to the line `@data`."""
    header: dict[str, Sequence[str]] = {}
    for number, line in lines:
        key, *words = line.split()
        if not key.startswith("@"):
            raise InputError(f"line {number} of {file} is {line[:40]!r}, expected @data before the series: add it")
        if key.lower() == "@data":
            return header
        header[key[1:].lower()] = words or [""]
    raise InputError(f"{file} has no line @data, expected a .ts file of the UCR and UEA archives: give one")


def _rows(lines: Iterable[tuple[int, str]], file: Path) -> tuple[list[NDArray[np.float64]], list[str]]:
    rows, labels = [], []
    for number, line in lines:
        *channels, label = line.split(":")
        if not channels:
            raise InputError(f"line {number} of {file} has no colon before a label, expected <values>:<label>: mend it")
        values = [_values(channel, f"channel {c} of line {number} of {file}") for c, channel in enumerate(channels)]
        if len({len(of_channel) for of_channel in values}) > 1:
            steps = ", ".join(str(len(of_channel)) for of_channel in values)
            raise InputError(
                f"line {number} of {file} has channels of {steps} steps, expected as many in each: write ? for values "
                "that are missing"
            )
        rows.append(np.array(values).T)
        labels.append("" if label.strip() == MISSING else label.strip())
    return rows, labels


def _values(channel: str, where: str) -> list[float]:
    texts = channel.replace(MISSING, "nan").split(",")
    try:
        return [float(text) for text in texts]
    except ValueError:
        step = next(i for i, text in enumerate(texts) if not _is_number(text))
        raise InputError(
            f"step {step} of {where} is {texts[step].strip()!r}, expected a number, or ? where it is missing: mend it"
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
