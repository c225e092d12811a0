"""Image sets that the library `datasets` of Hugging Face reads: of the hub, saved to disk, or local files."""

from __future__ import annotations

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
from probe.datasets.shared.labels import encode_labels, join_columns, label_columns, read_class_names, target_of
from probe.datasets.shared.partitions import content_cut, make_dataset
from probe.datasets.shared.subsets import subset

SPLITS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid", "dev")}
IMAGE_COLUMNS = ("image", "img", "pixel_values", "picture", "photo")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "category")
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

    def __init__(self, rows: Any, image: str, labels: IntArray, ids: Sequence[str]):
        from datasets import Image as ImageFeature

        self.rows = rows.cast_column(image, ImageFeature(decode=False))
        self.labels = labels
        self.ids = list(ids)
        self._image = image

    def subset(self, rows: IntArray) -> HuggingFacePartition:
        """Some of the rows; the others are not read for its fingerprint."""
        ids = [self.ids[row] for row in rows]
        return HuggingFacePartition(self.rows.select(rows), self._image, self.labels[rows], ids)

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
        paths = {row: Path(self._encoded(row)["path"] or "") for row, value in enumerate(stored) if not value}
        loose = {row: str(path.resolve()) for row, path in paths.items() if path.is_file()}
        found = dict(zip(loose, file_digests(Path("/"), list(loose.values())), strict=True))
        return [value or found.get(row, "") for row, value in enumerate(stored)]

    def _stored_digests(self) -> list[str]:
        """Digests of the images that are stored in the table; empty where it holds a path."""
        tables = self.rows.select_columns([self._image]).with_format("arrow").iter(batch_size=CHUNK_ROWS)
        images = (value for table in tables for value in table.column(0))
        blobs = (value["bytes"].as_buffer() if value.is_valid else None for value in images)
        return ["" if blob is None else hash_bytes(blob) for blob in blobs]

    def _encoded(self, row: int) -> dict[str, Any]:
        return self.rows[row][self._image] or {"bytes": None, "path": None}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Image.Image:
        value, name = self._encoded(int(row)), f"{self.ids[row]} (row {row})"
        if value["bytes"] is None and not Path(value["path"] or "").is_file():
            raise InputError(
                f"{name} holds no image, expected one in column {self._image}: leave the row out, or set on_error=skip"
            )
        return read_image(value["path"] if value["bytes"] is None else value["bytes"], name)


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
) -> Dataset:
    """Reads whatever `datasets.load_dataset` or `load_from_disk` reads; needs `pip install 'probe-bench[datasets]'`.

    Args:
        path: A folder that `save_to_disk` wrote, a folder or a file of images, parquet, ... that `load_dataset` takes,
            or an id on the hub, such as `uoft-cs/cifar10`, which is fetched into the library's own cache.
        name: How tables call the dataset; the last part of `path` by default.
        config_name: Which configuration of a hub set, where it has several.
        revision: Branch, tag or commit of a hub set.
        splits: Partition -> name of the split that it is, such as `{train: train, test: valid}`. By default `train`,
            `test` and `validation` (`val`, `valid`, `dev`); without `test`, validation is the test partition.
        test_fraction: Share of train that tests, cut by content and stratified, of sets without another split.
        image_column: Found by its type by default.
        label_column: The first of `LABEL_COLUMNS` that is there, else the only class label, by default. Where rows have
            several labels: a column of lists, or several columns of zeros and ones.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line; by default
            what the set says.
        ignore_label: A number or a name whose rows are left out, such as -1.
    """
    if path is None:
        raise InputError("dataset=huggingface needs a path, none is given: set dataset.path=<hub id, folder or file>")
    found = _splits(_open(path, config_name, revision), path, splits, cut=test_fraction is not None)
    features = found["train"].features
    image = _image_column(features, image_column)
    columns = [_label_column(features, asked, image) for asked in label_columns(label_column)]
    raw = {part: join_columns(_values(rows, columns)) for part, rows in found.items()}
    given = read_class_names(class_names) or (columns if len(columns) > 1 else _names(features[columns[0]]))
    codes, names = encode_labels(raw, f"column {', '.join(columns)}", given, ignore_label)
    partitions: dict[str, Partition] = {
        part: HuggingFacePartition(rows, image, codes[part], [f"{part}:{row}" for row in range(len(rows))])
        for part, rows in found.items()
    }
    if test_fraction is not None:
        partitions |= _cut(partitions["train"], target_of(raw), test_fraction)
    return make_dataset(name or Path(path).name, names, partitions, target=target_of(raw))


def _values(rows: Any, columns: Sequence[str]) -> dict[str, list[Any]]:
    """All values of some columns, without decoding any image."""
    table = rows.select_columns(list(columns)).with_format("arrow")[:]
    return {column: table.column(column).to_pylist() for column in columns}


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


def _splits(opened: Mapping[str, Any], path: str, asked: Mapping[str, str] | None, cut: bool) -> dict[str, Any]:
    """The split of each partition."""
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
    if not {"train"} | ({"test"} - {"test" if cut else ""}) <= chosen.keys():
        raise InputError(
            f"{path} has the splits {', '.join(there)}, expected train and test: name them with "
            f"dataset.splits='{{train: {there[0]}, test: {there[-1]}}}', or cut a part with dataset.test_fraction=0.2"
        )
    return {part: opened[name] for part, name in chosen.items()}


def _image_column(features: Mapping[str, Any], asked: str | None) -> str:
    from datasets import Image as ImageFeature

    def holds_images(name: str) -> bool:
        kind = features[name]
        is_struct = isinstance(kind, dict) and {"bytes", "path"} <= kind.keys()
        return isinstance(kind, ImageFeature) or is_struct or getattr(kind, "dtype", None) == "binary"

    fitting = [name for name in features if holds_images(name)]
    usual = [name for name in (*IMAGE_COLUMNS, *fitting) if name in fitting]
    if asked in fitting or (asked is None and fitting):
        return asked or usual[0]
    raise InputError(
        f"column {asked or 'for images'} holds no images, the columns are {_columns(features)}: set "
        f"dataset.image_column to one of {', '.join(fitting) or 'type image, by casting it'}"
    )


def _label_column(features: Mapping[str, Any], asked: str | None, image: str) -> str:
    classes = [name for name, kind in features.items() if hasattr(kind, "names")]
    usual = [name for name in LABEL_COLUMNS if name in features] or (classes if len(classes) == 1 else [])
    found = usual if asked is None else [asked]
    if not found or found[0] not in features or found[0] == image:
        raise InputError(
            f"there is no label column {asked or ' or '.join(LABEL_COLUMNS)}, the columns are {_columns(features)}: "
            "set dataset.label_column to the one with the classes"
        )
    return found[0]


def _names(kind: Any) -> list[str] | None:
    """Names of a class label, or of those that a column has lists of."""
    names: list[str] | None = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
    return names


def _columns(features: Mapping[str, Any]) -> str:
    kinds = {name: getattr(kind, "dtype", None) or type(kind).__name__ for name, kind in features.items()}
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())


def _cut(train: Partition, target: Target, fraction: float) -> dict[str, Partition]:
    """Train and test parts of a split without another one."""
    assert isinstance(train, HuggingFacePartition)
    test = content_cut(train.row_digests(), target.strata(train.labels), fraction)
    return {"train": subset(train, np.flatnonzero(~test)), "test": subset(train, np.flatnonzero(test))}
