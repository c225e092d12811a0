"""Images or texts that the library `datasets` of Hugging Face reads: of the hub, saved to disk, or local files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.abilities import DigestsRows
from probe.core.base import Dataset, Partition
from probe.core.errors import InputError
from probe.core.targets import Target
from probe.core.words import counted
from probe.datasets.shared.caption_rows import caption_columns as chosen_captions
from probe.datasets.shared.caption_rows import (
    captioned,
    check_captions_asked,
    check_no_labels,
    tested_among,
    texts_of_columns,
)
from probe.datasets.shared.columns import IMAGE, LABEL, MASK, required
from probe.datasets.shared.dictionaries import Coded
from probe.datasets.shared.hub_rows import HuggingFacePartition
from probe.datasets.shared.hub_sets import described, open_set, splits_of, values_of
from probe.datasets.shared.hub_texts import OfTexts, table_of
from probe.datasets.shared.labels import label_columns, read_class_names
from probe.datasets.shared.mask_codes import Ignored, read_palette
from probe.datasets.shared.mask_images import Pairs, masks_of
from probe.datasets.shared.numbers import joined_classes, numbers_asked
from probe.datasets.shared.partitions import content_cut, make_dataset
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.shortening import Shortening
from probe.datasets.shared.split_tables import fact_of
from probe.datasets.shared.subsets import subset
from probe.datasets.shared.text_rows import TextPartition
from probe.datasets.shared.text_tables import JOINED, check_pair_as, pairs_apart


def load(
    path: str | None = None,
    name: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    test_fraction: float | None = None,
    image_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    mask_column: str | None = None,
    class_names: str | Sequence[str] | None = None,
    palette: str | Mapping[str, Any] | None = None,
    background: str | None = None,
    ignore_label: Ignored = None,
    map_labels: bool = False,
    unknown_labels: bool = False,
    target_columns: str | Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    ordered: bool = False,
    text_column: str | None = None,
    pair_column: str | None = None,
    pair_as: str = JOINED,
    span_columns: Sequence[str] | None = None,
    shorten: Sequence[str] | None = None,
    stop_words: str | Sequence[str] | None = None,
    keep_words: Sequence[str] | None = None,
    group_column: str | None = None,
    session_column: str | None = None,
    hardness_column: str | None = None,
    caption_columns: str | Sequence[str] | None = None,
    merge_images: bool = False,
) -> Dataset:
    """Reads whatever `datasets.load_dataset` or `load_from_disk` reads; needs `pip install 'probe-bench[datasets]'`.

    Which column holds what is guessed as `probe.datasets.shared.columns` says.

    Args:
        path: A folder that `save_to_disk` wrote, a folder or a file of images, parquet, ... that `load_dataset` takes,
            or an id on the hub, such as `uoft-cs/cifar10`, which is fetched into the library's own cache.
        name: How tables call the dataset; the last part of `path` by default.
        config_name: Which configuration of a hub set, where it has several.
        revision: Branch, tag or commit of a hub set.
        splits: Partition -> name of the split that it is, such as `{train: train, test: valid}`. By default `train`,
            `test` and `validation` (`val`, `valid`, `dev`); without `test`, validation is the test partition. A set
            of one split has train alone, for protocols that draw test rows from it.
        test_fraction: Share of train that tests, cut by content and stratified, of sets without another split.
        image_column: By default the one of the names in `IMAGE`, else the only one of such a type.
        label_column: By default the one of the names in `LABEL`, else the only one with class names. Where rows have
            several labels: a column of lists, or several columns of zeros and ones.
        mask_column: The column whose images are masks, in the place of labels.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line; by default
            what the set says.
        palette, background: Of masks, see `probe.datasets.masks.load`.
        ignore_label: A number or a name whose rows are left out, such as -1; of masks, where several may be given,
            whose pixels count nowhere, 255 by default.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        target_columns: The column that holds numbers to predict, or several; labels are classes otherwise.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
        text_column: Of sets of texts: by default the one of the names in `TEXT`, else the only one that holds strings;
            rows are texts where no column holds images, or where it is given.
        pair_column, pair_as, span_columns, shorten, stop_words, keep_words: Of sets of texts, see
            `probe.datasets.texts.load`.
        group_column: Rows of one document, patient, ... that no protocol divides, see `row_facts.FACTS`.
        session_column, hardness_column: What else is known of each row.
        caption_columns: Columns of captions, texts or lists of texts: names, or patterns such as `caption_*`; labels
            are not read then. The partition test is read alone.
        merge_images: Take rows that hold the same image for one, with the captions of all: sets of a row per caption.
    """
    if path is None:
        raise InputError("dataset=huggingface needs a path, none is given: set dataset.path=<hub id, folder or file>")
    opened = open_set(path, config_name, revision)
    chosen = splits_of(opened, path, splits, test_fraction is not None, not caption_columns)
    found = {part: opened[split] for part, split in chosen.items()}
    if caption_columns:
        check_no_labels(
            "caption_columns", label_column=label_column, mask_column=mask_column, text_column=text_column,
            class_names=class_names, ignore_label=ignore_label, target_columns=target_columns, map_labels=map_labels,
            unknown_labels=unknown_labels, ordered=ordered, test_fraction=test_fraction, group_column=group_column,
            session_column=session_column, hardness_column=hardness_column, units=units,
        )  # fmt: skip
        left_out = _unused(opened, chosen)
        return _with_captions(
            name or Path(path).name, found, image_column, caption_columns, path, left_out, merge_images
        )
    check_captions_asked(merge_images, "caption_columns")
    features = found["train"].features
    if text_column and (of_images := image_column or mask_column):
        raise InputError(
            f"dataset.text_column is {text_column} and column {of_images} is said to hold images, expected one of the "
            "two: leave the other out"
        )
    facts = {"groups": group_column, "sessions": session_column, "hardness": hardness_column}
    taken = [*facts.values(), *label_columns(label_column), *label_columns(target_columns)]
    has_images = bool(image_column or mask_column or _images_of(features))
    apart = check_pair_as(pair_as, pair_column, span_columns, group_column, test_fraction)
    of_texts = OfTexts(text_column, pair_column, span_columns, Shortening(shorten or (), stop_words, keep_words or ()))
    texts = of_texts.found_in(features, path, taken, has_images=has_images)
    image = (texts and texts.text) or _image_column(features, image_column, path, mask_column)
    of_labels = {"label_column": label_column, "map_labels": map_labels, "target_columns": target_columns}
    given = of_labels if mask_column else {"palette": palette, "background": background}
    if odd := [word for word, value in given.items() if value not in (None, False)]:
        told = f"mask_column={mask_column}" if mask_column else "no mask_column"
        raise InputError(f"dataset.{odd[0]} is given with {told}, expected one of the two: leave the other out")
    if mask_column is not None:
        named = read_class_names(class_names), read_palette(palette), 255 if ignore_label is None else ignore_label
        pairs = {part: _pairs(rows, image, mask_column, part, path) for part, rows in found.items()}
        dataset = masks_of(name or Path(path).name, pairs, *named, background, _unused(opened, chosen))
        if test_fraction is None:
            return dataset
        cut = _cut(dataset.partitions["train"], dataset.target, test_fraction)
        return make_dataset(dataset.name, dataset.class_names, cut, dataset.notes, dataset.target, rows="images")
    if not (ignore_label is None or isinstance(ignore_label, int | str)):
        raise InputError(
            f"ignore_label is {ignore_label}, expected a number or a name where there are no masks: give one of them"
        )
    asked = numbers_asked(
        target_columns, units, missing, label_column=label_column, class_names=class_names, ignore_label=ignore_label,
        map_labels=map_labels, unknown_labels=unknown_labels,
    )  # fmt: skip
    if asked:
        columns = asked.among(path, described(features), [name for name in features if name != image])
        coded = {column: _coded(found, chosen, column) for column in columns}
        raw = {part: {c: coded[c][part][0].values for c in columns} for part in found}
        labelled = asked.read(raw, path)
    else:
        columns = [_label_column(features, column, image, path) for column in label_columns(label_column)]
        coded = {column: _coded(found, chosen, column) for column in columns}
        labelled = joined_classes(coded, read_class_names(class_names), ignore_label, map_labels, unknown_labels)[0]
    partitions: dict[str, Partition] = {}
    for part, rows in found.items():
        ids, labels = [f"{part}:{row}" for row in range(len(rows))], labelled.labels[part]
        partition: Partition = (
            TextPartition(texts.rows(rows, part, path), labels, ids, labelled.target)
            if texts
            else HuggingFacePartition(rows, image, labels, ids, _own(path))
        )
        table = table_of(rows, [column for column in facts.values() if column], path)
        read = know(partition, {f: fact_of(table, column, part) for f, column in facts.items()}, part)
        partitions[part] = (
            pairs_apart(read, labelled.target, part) if apart and isinstance(read, TextPartition) else read
        )
    if test_fraction is not None:
        partitions |= _cut(partitions["train"], labelled.target, test_fraction)
    called, left_out = name or Path(path).name + (texts.suffix if texts else ""), _unused(opened, chosen)
    return make_dataset(
        called, labelled.names, partitions, target=labelled.target, rows="texts" if texts else "images",
        left_out=left_out + (texts.shorter.told if texts else []), ordered=ordered,
    )  # fmt: skip


def _with_captions(
    name: str,
    found: Mapping[str, Any],
    image_column: str | None,
    asked: str | Sequence[str],
    path: str,
    left_out: list[str],
    merge: bool,
) -> Dataset:
    """The images of the partition that tests, with their captions."""
    part = tested_among(found)
    rows = found[part]
    free = [column for column in rows.features if column not in _images_of(rows.features)]
    columns = chosen_captions(free, asked, path)
    image = _image_column(rows.features, image_column, path, None)
    texts = texts_of_columns({column: values_of(rows, column) for column in columns}, part)
    ids, others = [f"{part}:{row}" for row in range(len(rows))], {p: r for p, r in found.items() if p != part}
    own = _own(path)
    return captioned(
        name, texts, lambda counts: HuggingFacePartition(rows, image, counts, ids, own), left_out, others, merge
    )


def _unused(opened: Mapping[str, Any], chosen: Mapping[str, str]) -> list[str]:
    """A phrase for each split that is no partition."""
    unused = {split: rows for split, rows in opened.items() if split not in chosen.values()}
    return [f"{counted(len(rows), 'row')} of split {split}" for split, rows in unused.items()]


def _pairs(rows: Any, image: str, mask: str, part: str, path: str) -> Pairs:
    """The images and the masks of a split."""
    fitting = _images_of(rows.features)
    required(MASK, path, described(rows.features), mask, [column for column in fitting if column != image])
    ids, nothing = [f"{part}:{row}" for row in range(len(rows))], np.zeros(len(rows), dtype=np.int64)
    images, masks = (HuggingFacePartition(rows, column, nothing, ids, _own(path)) for column in (image, mask))
    files = masks.files if images.files else []
    return Pairs(lambda labels: HuggingFacePartition(rows, image, labels, ids, _own(path)), masks, images.size, files,
                 mask)  # fmt: skip


def _own(path: str) -> list[Path]:
    """Folders of which a set may name files: its own, and those where the library keeps what it fetched."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    source = Path(path).expanduser()
    own = [] if not source.exists() else [source if source.is_dir() else source.parent]
    return [*own, Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]


def _coded(found: Mapping[str, Any], splits: Mapping[str, str], column: str) -> dict[str, list[Coded]]:
    """Labels of every split with the class names that it gives them."""
    for part, rows in found.items():
        if column not in rows.features:
            raise InputError(
                f"split {splits[part]} has no column {column}, its columns are {_columns(rows.features)}: give splits "
                "with the same columns"
            )
    return {
        part: [Coded(f"split {splits[part]}", values_of(rows, column), _names(rows.features[column]))]
        for part, rows in found.items()
    }


def _images_of(features: Mapping[str, Any]) -> list[str]:
    """The columns that hold images."""
    from datasets import Image as ImageFeature

    def holds_images(kind: Any) -> bool:
        is_struct = isinstance(kind, dict) and {"bytes", "path"} <= kind.keys()
        return isinstance(kind, ImageFeature) or is_struct or getattr(kind, "dtype", None) == "binary"

    return [name for name, kind in features.items() if holds_images(kind)]


def _image_column(features: Mapping[str, Any], asked: str | None, path: str, other: str | None) -> str:
    """The column of the images; `other` holds something else."""
    fitting = [name for name in _images_of(features) if name != other]
    return required(IMAGE, path, described(features), asked, fitting, by_kind=fitting)


def _label_column(features: Mapping[str, Any], asked: str | None, image: str, path: str) -> str:
    fitting = [name for name in features if name != image]
    classes = [name for name in fitting if _names(features[name])]
    return required(LABEL, path, described(features), asked, fitting, by_kind=classes)


def _names(kind: Any) -> list[str] | None:
    """Names of a class label, or of those that a column has lists of."""
    names: list[str] | None = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
    return names


def _columns(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in described(features).items())


def _cut(train: Partition, target: Target, fraction: float) -> dict[str, Partition]:
    """Train and test parts of a split without another one."""
    assert isinstance(train, DigestsRows)
    test = content_cut(train.row_digests(), target.strata(train.labels), fraction)
    return {"train": subset(train, np.flatnonzero(~test)), "test": subset(train, np.flatnonzero(test))}
