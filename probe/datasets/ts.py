"""Series in `.ts` files, as the UCR and UEA archives have them, with classes or numbers as targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.numbers import Asked, Labelled, classes
from probe.datasets.shared.partitions import make_dataset
from probe.datasets.shared.series_rows import SeriesPartition, check_gaps, sound
from probe.datasets.shared.ts_files import TsFile, files_of, read_ts

TARGET = "target"
"""What the number to predict is called, of which the format gives no name."""


def load(
    path: str | None = None,
    name: str | None = None,
    gaps: str = "refuse",
    ignore_label: str | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    encoding: str | None = None,
    ordered: bool = False,
) -> Dataset:
    """Reads `<name>_TRAIN.ts` and, where it is there, `<name>_TEST.ts`, from their folder or by the first one's path.

    A file of another name is train, for protocols that draw test rows from it. The header declares what labels are:
    classes in its order (`@classLabel true …`), or a number to predict (`@targetLabel true`). Series may differ in
    length; steps at the end in which all channels are missing are no steps.

    Args:
        path: The file, or the folder; of a folder with several sets the one that is called as the folder is.
        name: How tables call the dataset; by default as its files are called.
        gaps: What becomes of other missing values (`?`): `refuse`, `interpolate` (the straight line between the values
            before and after in their channel, at the ends the nearest one) or `zero`.
        ignore_label: A class whose rows are left out.
        units: Of the number to predict, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        encoding: Of the files, such as `latin-1`; by default UTF-8, or UTF-16 with its mark.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
    """
    if path is None:
        raise InputError("dataset=ts needs a file or a folder, none is given: set dataset.path=<file.ts or folder>")
    check_gaps(gaps)
    files, called, left_out = files_of(Path(path).expanduser())
    read = {part: read_ts(file, encoding) for part, file in files.items()}
    labelled = _labelled(read, files["train"], ignore_label, units, missing)
    rows = sound({part: found.rows for part, found in read.items()}, gaps, called)
    partitions = {
        part: SeriesPartition(rows[part], labelled.labels[part], [str(i) for i in range(len(of_part))], labelled.target)
        for part, of_part in rows.items()
    }
    return make_dataset(
        name or called,
        labelled.names,
        partitions,
        target=labelled.target,
        left_out=left_out,
        rows="series",
        ordered=ordered,
    )


def _labelled(
    read: Mapping[str, TsFile], source: Path, ignore_label: str | None, units: str | Sequence[str] | None, missing: str
) -> Labelled:
    """Codes of the classes, in the order of the header of train, or numbers."""
    names = read["train"].classes
    if len({found.classes is None for found in read.values()}) > 1:
        raise InputError(
            f"one of train and test of {source} has classes and the other numbers, expected @classLabel in both "
            "headers or @targetLabel in both: mend the files"
        )
    of_classes, of_numbers = {"ignore_label": ignore_label}, {"units": units, "missing": missing}
    of_numbers["missing"] = None if missing == "refuse" else missing
    foreign = [key for key, value in (of_classes if names is None else of_numbers).items() if value is not None]
    if foreign:
        held, others = ("numbers", "classes") if names is None else ("classes", "numbers to predict")
        raise InputError(
            f"the labels of {source} are {held}, dataset.{foreign[0]} says something of {others}: leave it out"
        )
    labels = {part: found.labels for part, found in read.items()}
    if names is not None:
        return classes(labels, str(source), names, ignore_label)
    said = (units,) if isinstance(units, str) else tuple(units or ())
    return Asked((TARGET,), said, missing).read({part: {TARGET: values} for part, values in labels.items()}, source)
