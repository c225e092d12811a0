"""Images, vectors or series in parquet files, in the layout that Hugging Face `datasets` writes and reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from probe.core.base import Dataset, Partition
from probe.core.errors import InputError
from probe.core.targets import Target
from probe.datasets.shared.caption_rows import caption_columns as chosen_captions
from probe.datasets.shared.caption_rows import (
    captioned,
    check_captions_asked,
    check_no_labels,
    tested_among,
    texts_of_columns,
)
from probe.datasets.shared.columns import IMAGE, LABEL, choose, required
from probe.datasets.shared.labels import label_columns, read_class_names
from probe.datasets.shared.numbers import joined_classes, numbers_asked
from probe.datasets.shared.parquet_files import (
    Files,
    check_schemas,
    coded_labels,
    described,
    images_of,
    is_image_type,
    is_number_type,
    metadata_names,
    n_rows_by_group,
    number_column,
    partition_files,
    schema_of,
    values_of,
)
from probe.datasets.shared.parquet_rows import ParquetPartition
from probe.datasets.shared.parquet_series import read_series
from probe.datasets.shared.parquet_series import series_columns as chosen_series
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.series_rows import SeriesPartition, check_gaps
from probe.datasets.shared.vectors import feature_columns as chosen_features
from probe.datasets.shared.vectors import stacked


def load(
    path: str | None = None,
    name: str | None = None,
    image_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
    unknown_labels: bool = False,
    group_column: str | None = None,
    session_column: str | None = None,
    hardness_column: str | None = None,
    feature_columns: str | Sequence[str] | None = None,
    target_columns: str | Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    series_columns: str | Sequence[str] | None = None,
    gaps: str = "refuse",
    ordered: bool = False,
    caption_columns: str | Sequence[str] | None = None,
    merge_images: bool = False,
) -> Dataset:
    """Reads `train-*.parquet` and, optionally, `test-*` and `validation-*.parquet` from a folder or its `data/`.

    One file, or a folder whose files name no partition, is train, for protocols that draw test rows from it. Class
    names come from the schema's metadata where Hugging Face wrote them, file by file; else string labels are classes in
    sorted order, and numbers stand for themselves. Files without images whose other columns are numbers make vectors,
    for `backbone=identity`. Which column holds what is guessed as `probe.datasets.shared.columns` says.

    Args:
        path: The folder, or the only file.
        name: How tables call the dataset; the folder's name by default.
        image_column: Column of encoded images, plain binary or a struct with `bytes`; by default the one of the names
            in `IMAGE`, else the only one of such a type.
        label_column: Column of labels; by default the one of the names in `LABEL`, else the only one with class names.
            Where rows have several labels: a column of lists, or several columns of zeros and ones.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        group_column, session_column, hardness_column: What else is known of each row, see `row_facts.FACTS`.
        feature_columns: Columns of numbers that make a vector of each row: names, or patterns such as `f*`.
        target_columns: The column that holds numbers to predict, or several; labels are classes otherwise.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        series_columns: Columns of lists that make a series of each row, names or patterns: a channel each, or lists of
            lists, the channels of each step; by default the one called `series`. Lists may differ in length.
        gaps: What becomes of values that are missing in a series: `refuse`, `interpolate` (the straight line between
            the values before and after in their channel, at the ends the nearest one) or `zero`.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
        caption_columns: Columns of captions, texts or lists of texts: names, or patterns such as `caption_*`; labels
            are not read then. The partition test is read alone.
        merge_images: Take rows that hold the same image for one, with the captions of all: sets of a row per caption.
    """
    if path is None:
        raise InputError(
            "dataset=parquet needs a folder, none is given: set dataset.path=<folder with train-*.parquet>"
        )
    check_gaps(gaps)
    root = Path(path).expanduser()
    called = name or (root.stem if root.is_file() else root.resolve().name)
    found, left_out = partition_files(root, not caption_columns)
    if caption_columns:
        check_no_labels(
            "caption_columns", label_column=label_column, class_names=class_names, ignore_label=ignore_label,
            feature_columns=feature_columns, target_columns=target_columns, series_columns=series_columns,
            map_labels=map_labels, unknown_labels=unknown_labels, ordered=ordered, group_column=group_column,
            session_column=session_column, hardness_column=hardness_column, units=units,
        )  # fmt: skip
        return _with_captions(called, found, image_column, caption_columns, root, left_out, merge_images)
    check_captions_asked(merge_images, "caption_columns")
    schema = schema_of(found["train"][0])
    known = {"groups": group_column, "sessions": session_column, "hardness": hardness_column}
    series = [] if feature_columns is not None else chosen_series(schema, series_columns, root)
    image = None if series or feature_columns is not None else _image_column(schema, image_column, root)
    numbers = numbers_asked(
        target_columns, units, missing, label_column=label_column, class_names=class_names, ignore_label=ignore_label,
        map_labels=map_labels, unknown_labels=unknown_labels,
    )  # fmt: skip
    if numbers:
        columns = numbers.among(root, described(schema), [f.name for f in schema if is_number_type(f.type)])
    else:
        columns = [_label_column(schema, asked, root) for asked in label_columns(label_column)]
    taken = [*columns, *known.values()]
    features = [] if series or image is not None else _feature_columns(schema, feature_columns, taken, root)
    kind_of_label = "number" if numbers else "label"
    contents = dict.fromkeys(features, "number") | dict.fromkeys(series, "list") | dict.fromkeys(columns, kind_of_label)
    check_schemas(found, contents | ({image: "image"} if image else {}))
    if numbers:
        raw = {p: {c: [v for file in files for v in values_of(file, c)] for c in columns} for p, files in found.items()}
        labelled, translated = numbers.read(raw, root), set(found)
    else:
        coded = {column: coded_labels(found, column) for column in columns}
        labelled, translated = joined_classes(
            coded, read_class_names(class_names), ignore_label, map_labels, unknown_labels
        )
    steps = read_series(found, series, gaps, root) if series else {}
    partitions = {}
    for part, files in found.items():
        facts = {fact: _fact(files, column, part) for fact, column in known.items()}
        labels = labelled.labels[part]
        rows: Partition
        if image is not None:
            rows = ParquetPartition(files, image, ",".join(columns), labels, part in translated)
        else:
            rows = _arrays(steps[part] if series else _vectors(files, features, root), labels, labelled.target)
        partitions[part] = know(rows, facts, part)
    kind = "series" if series else "vectors" if image is None else "images"
    return make_dataset(
        called, labelled.names, partitions, target=labelled.target, left_out=left_out, rows=kind, ordered=ordered
    )


def _with_captions(
    name: str,
    found: Files,
    image_column: str | None,
    asked: str | Sequence[str],
    root: Path,
    left_out: list[str],
    merge: bool,
) -> Dataset:
    """The images of the partition that tests, with their captions."""
    part = tested_among(found)
    files = found[part]
    schema = schema_of(files[0])
    fitting = images_of(schema)
    columns = chosen_captions([c for c in schema.names if c not in fitting], asked, root)
    image = required(IMAGE, root, described(schema), image_column, fitting, by_kind=fitting)
    check_schemas({part: files}, {image: "image"} | dict.fromkeys(columns, "label"))
    texts = texts_of_columns({c: [value for file in files for value in values_of(file, c)] for c in columns}, part)
    others = {p: range(sum(n for file in fs for n in n_rows_by_group(file))) for p, fs in found.items() if p != part}
    of_captions = ",".join(columns)
    return captioned(
        name, texts, lambda counts: ParquetPartition(files, image, of_captions, counts), left_out, others, merge
    )


def _vectors(files: Sequence[Path], columns: Sequence[str], root: Path) -> NDArray[Any]:
    return stacked({column: [number_column(file, column) for file in files] for column in columns}, root)


def _arrays(rows: Any, labels: NDArray[Any], target: Target) -> Partition:
    """Of a list of series, or of an array of vectors."""
    kind = SeriesPartition if isinstance(rows, list) else ArrayPartition
    return kind(rows, labels, [str(row) for row in range(len(rows))], target=target)


def _fact(files: Sequence[Path], column: str | None, part: str) -> list[Any] | None:
    """The values of a column that train must have; None where it is not asked for, or another partition lacks it."""
    schemas = [schema_of(file) for file in files] if column else []
    if column is None or (part != "train" and any(column not in schema.names for schema in schemas)):
        return None
    for file, schema in zip(files, schemas, strict=True):
        if column not in schema.names:
            listing = ", ".join(f"{name} ({kind})" for name, kind in described(schema).items())
            raise InputError(f"{file} has the columns {listing}, expected {column}: name one that it has")
    return [value for file in files for value in values_of(file, column)]


def _image_column(schema: pa.Schema, asked: str | None, root: Path) -> str | None:
    """The column of images; None where there is none and the numbers may be vectors."""
    fitting = images_of(schema)
    if fitting or asked is not None:
        return required(IMAGE, root, described(schema), asked, fitting, by_kind=fitting)
    named = choose(IMAGE, root, described(schema))
    if named is not None:
        raise InputError(
            f"column {named} of {root} is {schema.field(named).type}, expected encoded images: write the files with "
            "the bytes of the images, paths are not followed; or set dataset.feature_columns to read vectors"
        )
    return None


def _label_column(schema: pa.Schema, asked: str | None, root: Path) -> str:
    fitting = [field.name for field in schema if not is_image_type(field.type)]
    named = [column for column in fitting if metadata_names(schema, column)]
    return required(LABEL, root, described(schema), asked, fitting, by_kind=named)


def _feature_columns(
    schema: pa.Schema, asked: str | Sequence[str] | None, taken: Sequence[str | None], root: Path
) -> list[str]:
    return chosen_features({field.name: is_number_type(field.type) for field in schema}, asked, taken, root)
