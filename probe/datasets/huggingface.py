"""Image sets that the library `datasets` of Hugging Face reads: of the hub, saved to disk, or local files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from probe.core.base import Dataset, IntArray, Partition, digest
from probe.core.errors import InputError
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes
from probe.core.images import read_image
from probe.core.targets import Target
from probe.datasets.shared.columns import IMAGE, LABEL, required
from probe.datasets.shared.dictionaries import Coded, one_dictionary
from probe.datasets.shared.labels import encode_labels, join_columns, label_columns, read_class_names, target_of
from probe.datasets.shared.partitions import check_lengths, content_cut, make_dataset
from probe.datasets.shared.subsets import subset

SPLITS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid", "dev")}
CHUNK_ROWS = 1000
READERS = {
    ".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json", ".tar": "webdataset",
}  # fmt: skip
"""Suffix of a single file: the reader of `datasets`."""


class HuggingFacePartition:
    """Rows of one split; images stay encoded until they are asked for.

    The fingerprint is that of the encoded images and the labels; what the library calls its fingerprint, which depends
    on how the rows were made, has no part in it.
    """

    def __init__(self, rows: Any, image: str, labels: IntArray, ids: Sequence[str], inside: Sequence[Path] = ()):
        """`inside`: folders whose files a row may name instead of holding an image; others are not opened."""
        from datasets import Image as ImageFeature

        check_lengths({"rows": len(rows), "labels": len(labels), "ids": len(ids)})
        self._inside = [folder.absolute() for folder in inside]
        # The library would decode the other columns of a row too, with any decoder that it has.
        self.rows = rows.select_columns([image]).cast_column(image, ImageFeature(decode=False))
        self.labels, self.ids, self._image = labels, list(ids), image

    def subset(self, rows: IntArray) -> HuggingFacePartition:
        """Some of the rows; the others are not read for its fingerprint."""
        ids = [self.ids[row] for row in rows]
        return HuggingFacePartition(self.rows.select(rows), self._image, self.labels[rows], ids, self._inside)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of encoded images and labels, in order."""
        return digest([self.row_digests(), self.labels.tolist()])

    def row_digests(self) -> list[str]:
        """Digest of each row's encoded image: copies of an image have equal ones; empty where there is none."""
        return self._digests

    @cached_property
    def _digests(self) -> list[str]:
        files = [Path(file["filename"]) for file in self.rows.cache_files]
        stored = remembered(f"images {self._image} {digest(self.ids)}", files, self._stored_digests)
        paths = {row: self._file(row) for row, value in enumerate(stored) if not value}
        loose = {row: str(path) for row, path in paths.items() if path is not None}
        found = dict(zip(loose, file_digests(Path("/"), list(loose.values())), strict=True))
        return [value or found.get(row, "") for row, value in enumerate(stored)]

    def _stored_digests(self) -> list[str]:
        """Digests of the images that are stored in the table; empty where it holds a path."""
        tables = self.rows.select_columns([self._image]).with_format("arrow").iter(batch_size=CHUNK_ROWS)
        images = (value for table in tables for value in table.column(0))
        blobs = (value["bytes"].as_buffer() if value.is_valid else None for value in images)
        return ["" if blob is None else hash_bytes(blob) for blob in blobs]

    def _file(self, row: int) -> Path | None:
        """The file that a row names instead of holding an image, if it is one of the dataset's own."""
        named = self._encoded(row)["path"]
        path = Path(os.path.abspath(named)) if named else None
        if path is None or not path.is_file():
            return None
        if not any(path.is_relative_to(own) for folder in self._inside for own in (folder, folder.resolve())):
            raise InputError(
                f"{self.ids[row]} (row {row}) names the file {named} in column {self._image} and holds no image, "
                "expected the image itself, or a file in the dataset's own folder: embed the images"
            )
        return path.resolve()

    def _encoded(self, row: int) -> dict[str, Any]:
        return self.rows[row][self._image] or {"bytes": None, "path": None}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Image.Image:
        value, name = self._encoded(int(row)), f"{self.ids[row]} (row {row})"
        source = self._file(int(row)) if value["bytes"] is None else value["bytes"]
        if source is None:
            raise InputError(
                f"{name} holds no image, expected one in column {self._image}: leave the row out, or set "
                "features.on_error=skip"
            )
        return read_image(source, name)


def load(
    path: str | None = None,
    name: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    test_fraction: float | None = None,
    image_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
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
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line; by default
            what the set says.
        ignore_label: A number or a name whose rows are left out, such as -1.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
    """
    if path is None:
        raise InputError("dataset=huggingface needs a path, none is given: set dataset.path=<hub id, folder or file>")
    opened = _open(path, config_name, revision)
    chosen = _splits(opened, path, splits, cut=test_fraction is not None)
    found = {part: opened[split] for part, split in chosen.items()}
    features = found["train"].features
    image = _image_column(features, image_column, path)
    columns = [_label_column(features, asked, image, path) for asked in label_columns(label_column)]
    given = read_class_names(class_names)
    labels = {c: one_dictionary(_coded(found, chosen, c), f"column {c}", declared=given is not None) for c in columns}
    raw = {part: join_columns({c: labels[c].values[part] for c in columns}) for part in found}
    given = given or (columns if len(columns) > 1 else labels[columns[0]].names)
    codes, names = encode_labels(raw, f"column {', '.join(columns)}", given, ignore_label, map_labels)
    partitions: dict[str, Partition] = {
        part: HuggingFacePartition(rows, image, codes[part], [f"{part}:{row}" for row in range(len(rows))], _own(path))
        for part, rows in found.items()
    }
    if test_fraction is not None:
        partitions |= _cut(partitions["train"], target_of(raw), test_fraction)
    left_out = [f"{len(rows)} rows of split {split}" for split, rows in opened.items() if split not in chosen.values()]
    called = name or Path(path).name
    return make_dataset(called, names, partitions, target=target_of(raw), left_out=left_out, rows="images")


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
        part: [Coded(f"split {splits[part]}", _values(rows, column), _names(rows.features[column]))]
        for part, rows in found.items()
    }


def _values(rows: Any, column: str) -> list[Any]:
    """All values of a column, without decoding any image."""
    return list(rows.select_columns([column]).with_format("arrow")[:].column(column).to_pylist())


def _open(path: str, config_name: str | None, revision: str | None) -> Mapping[str, Any]:
    """Splits by name."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "dataset=huggingface needs the package datasets, which is not installed: "
            "pip install 'probe-bench[datasets]'"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < 4:  # whose sets may be scripts
        raise InputError(
            f"dataset=huggingface needs datasets 4 or newer, which runs no code of the sets, here is "
            f"{datasets.__version__}: pip install -U datasets"
        )
    source = Path(path).expanduser()
    saved = any((source / file).is_file() for file in ("dataset_dict.json", "state.json"))
    if not source.exists() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise InputError(f"dataset.path {path} is no file or folder, expected one, or an id on the hub: give its path")
    try:
        if saved:
            opened = datasets.load_from_disk(str(source))
        elif source.is_file():
            if source.suffix not in READERS:  # others of the library's readers unpickle
                raise InputError(f"file {path} is none of {', '.join(READERS)}: convert it, or give its folder")
            opened = datasets.load_dataset(READERS[source.suffix], data_files=str(source))
        else:
            where = str(source) if source.exists() else path
            opened = datasets.load_dataset(where, config_name, revision=revision)
    except Exception as error:
        # The library has exceptions of its own for each kind of source, and those of every reader and of the network.
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"datasets cannot load {path} ({type(error).__name__}: {reason}): mend dataset.path, config_name or "
            "revision, or fetch the set where there is a network and give its folder"
        ) from error
    return opened if isinstance(opened, Mapping) else {"train": opened}


def _splits(opened: Mapping[str, Any], path: str, asked: Mapping[str, str] | None, cut: bool) -> dict[str, str]:
    """The name of each partition's split."""
    there = list(opened)
    if asked is None:
        chosen = {part: n for part, names in SPLITS.items() if (n := next((n for n in names if n in there), None))}
        if "test" not in chosen and "validation" in chosen and not cut:
            chosen["test"] = chosen.pop("validation")
    else:
        chosen = dict(asked)
    wrong = [f"{part}={name}" for part, name in chosen.items() if part not in SPLITS or name not in there]
    if wrong:
        raise InputError(
            f"dataset.splits has {', '.join(wrong)}, expected {', '.join(SPLITS)} from the splits {', '.join(there)} "
            f"of {path}: mend it"
        )
    if cut and "test" in chosen:
        raise InputError(
            f"{path} has the test split {chosen['test']}, dataset.test_fraction is for sets without one: leave it out, "
            "or name other splits in dataset.splits"
        )
    if "train" not in chosen:
        raise InputError(
            f"{path} has the splits {', '.join(there)}, expected train and test: name them with "
            f"dataset.splits='{{train: {there[0]}, test: {there[-1]}}}', or cut a part with dataset.test_fraction=0.2"
        )
    return chosen


def _image_column(features: Mapping[str, Any], asked: str | None, path: str) -> str:
    from datasets import Image as ImageFeature

    def holds_images(kind: Any) -> bool:
        is_struct = isinstance(kind, dict) and {"bytes", "path"} <= kind.keys()
        return isinstance(kind, ImageFeature) or is_struct or getattr(kind, "dtype", None) == "binary"

    fitting = [name for name, kind in features.items() if holds_images(kind)]
    return required(IMAGE, path, _described(features), asked, fitting, by_kind=fitting)


def _label_column(features: Mapping[str, Any], asked: str | None, image: str, path: str) -> str:
    fitting = [name for name in features if name != image]
    classes = [name for name in fitting if _names(features[name])]
    return required(LABEL, path, _described(features), asked, fitting, by_kind=classes)


def _names(kind: Any) -> list[str] | None:
    """Names of a class label, or of those that a column has lists of."""
    names: list[str] | None = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
    return names


def _described(features: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(getattr(kind, "dtype", None) or type(kind).__name__) for name, kind in features.items()}


def _columns(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in _described(features).items())


def _cut(train: Partition, target: Target, fraction: float) -> dict[str, Partition]:
    """Train and test parts of a split without another one."""
    assert isinstance(train, HuggingFacePartition)
    test = content_cut(train.row_digests(), target.strata(train.labels), fraction)
    return {"train": subset(train, np.flatnonzero(~test)), "test": subset(train, np.flatnonzero(test))}
