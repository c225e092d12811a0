"""Images in tar shards, in the layout of WebDataset: the files of a sample stand together under one key."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from probe.core.base import Dataset, IntArray, digest
from probe.core.errors import InputError
from probe.core.files import remembered
from probe.core.hashing import hash_bytes
from probe.core.images import EXTENSIONS, read_image
from probe.datasets.shared.labels import encode_labels, read_class_names, target_of
from probe.datasets.shared.partitions import make_dataset

PARTITIONS = {"train": ("train", "training"), "test": ("test",), "validation": ("validation", "val", "valid")}
LABEL_KEYS = ("cls", "label", "class", "txt")
JSON_FIELDS = ("label", "cls", "class", "class_name", "target")


class Place(NamedTuple):
    """Where a file stands: number of the shard, first byte, and how many."""

    shard: int
    offset: int
    size: int


class Sample(NamedTuple):
    """One key of a shard and its files by extension."""

    key: str
    files: dict[str, Place]


class TarPartition:
    """Images at known places in shards, read and decoded when asked for."""

    def __init__(self, shards: Sequence[Path], images: ArrayLike, ids: Sequence[str], labels: IntArray):
        self.shards, self.labels, self.ids = list(shards), labels, list(ids)
        self._images = np.array(images, dtype=np.int64).reshape(-1, 3)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of encoded images, ids and labels, in order."""
        return digest([self.row_digests(), self.ids, self.labels.tolist()])

    def subset(self, rows: IntArray) -> TarPartition:
        """Some of the rows; the others are not read for its fingerprint."""
        return TarPartition(self.shards, self._images[rows], [self.ids[row] for row in rows], self.labels[rows])

    def row_digests(self) -> list[str]:
        """Digest of each row's encoded image: copies of an image have equal ones."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        def compute() -> list[str]:
            places = (Place(*(int(value) for value in place)) for place in self._images)
            return [hash_bytes(content) for content in _contents(self.shards, places)]

        return remembered(f"images {hash_bytes(self._images)}", self.shards, compute)

    def _encoded(self, row: int) -> bytes:
        shard, offset, size = (int(value) for value in self._images[row])
        return b"".join(_contents(self.shards, [Place(shard, offset, size)]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Image.Image:
        return read_image(self._encoded(int(row)), f"{self.ids[row]} (row {row})")


def _contents(shards: Sequence[Path], places: Iterable[Place]) -> Iterator[bytes]:
    """The bytes at some places; neighbours in one shard are read from one opening of it."""
    for number, group in groupby(places, key=lambda place: place.shard):
        with shards[number].open("rb") as file:
            for place in group:
                file.seek(place.offset)
                yield file.read(place.size)


def load(
    path: str | None = None,
    name: str | None = None,
    train: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
    validation: str | Sequence[str] | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
) -> Dataset:
    """Reads uncompressed shards; needs `pip install 'probe-bench[webdataset]'`.

    Labels that are all whole numbers are class numbers, others names.

    Args:
        path: Folder with `train-*.tar`, `test-*.tar` and, optionally, `val-*.tar`, perhaps with a word in front, such
            as `imagenet-train-0.tar`; without test, validation tests.
        name: How tables call the dataset; the folder's name by default.
        train: Shards below `path` instead, with braces for ranges: `a-{000000..000146}.tar`, or a list of such.
        test: Likewise.
        validation: Likewise.
        image_key: Extension of the images; by default every one that Pillow reads, such as `jpg`.
        label_key: Extension of the labels, by default the first of `LABEL_KEYS` that is there, else a field of `json`;
            `json.species` names the field.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
    """
    root, found = _shards(path, {"train": train, "test": test, "validation": validation})
    samples = {part: _index(shards) for part, shards in found.items()}
    key = label_key or _label_key(root, samples["train"])
    images, raw = {}, {}
    for part, shards in found.items():
        images[part] = [_image(shards, sample, image_key) for sample in samples[part]]
        raw[part] = _labels(shards, samples[part], key)
    codes, names = encode_labels(raw, f"the {key} files", read_class_names(class_names), ignore_label)
    partitions = {}
    for part, shards in found.items():
        ids = [f"{shards[image.shard].name}:{s.key}" for s, image in zip(samples[part], images[part], strict=True)]
        partitions[part] = TarPartition(shards, images[part], ids, codes[part])
    return make_dataset(name or root.resolve().name, names, partitions, target=target_of(raw))


def _shards(path: str | None, asked: dict[str, str | Sequence[str] | None]) -> tuple[Path, dict[str, list[Path]]]:
    """The folder, and the shards of each partition."""
    if path is None and not (asked["train"] and asked["test"]):
        raise InputError(
            "dataset=webdataset needs shards, none are given: set dataset.path=<folder with train-*.tar and test-*.tar>"
        )
    root = Path(path or ".").expanduser()
    found = {}
    for part, names in PARTITIONS.items():
        pattern = re.compile(rf"(.*[-_.])?({'|'.join(names)})([-_.].*)?\.tar")
        given = asked[part]
        found[part] = (
            [root / file for spec in ([given] if isinstance(given, str) else given) for file in _expand(spec)]
            if given
            else sorted(f for f in root.glob("*.tar") if pattern.fullmatch(f.name))
        )
    if not found["test"]:
        found["test"] = found.pop("validation")
    missing = [shard for shards in found.values() for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(f"{len(missing)} shards are no files, the first is {missing[0]}: mend the names or the ranges")
    if not (found["train"] and found["test"]):
        there = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
        raise InputError(
            f"{root} has {', '.join(there[:10]) or 'nothing'}, expected train-*.tar and test-*.tar (or val-*.tar): "
            "give the folder that holds them, or name the shards in dataset.train and dataset.test"
        )
    return root, {part: shards for part, shards in found.items() if shards}


def _expand(spec: str) -> list[str]:
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise InputError(
            "ranges of shards need the package webdataset, which is not installed: pip install "
            "'probe-bench[webdataset]', or set dataset.path to a folder with train-*.tar and test-*.tar"
        ) from error
    expanded: list[str] = expand_urls(spec)
    return expanded


def _index(shards: Sequence[Path]) -> list[Sample]:
    """All samples of the shards, in order; neighbouring files with one key are a sample."""
    samples: list[Sample] = []
    for number, shard in enumerate(shards):
        try:
            with tarfile.open(shard, "r:") as archive:  # uncompressed: only there do files have places
                members = [(m.name, Place(number, m.offset_data, m.size)) for m in archive if m.isfile()]
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(
                f"{shard} is no readable tar file ({error}), expected an uncompressed shard: unpack or write it again"
            ) from error
        end = shard.stat().st_size
        last = None
        for name, place in members:
            # As the library splits names: the key ends at the first dot of the file's own name.
            folder, _, base = name.rpartition("/")
            stem, _, extension = base.partition(".")
            if not stem or base.startswith("__"):
                continue
            if place.offset + place.size > end:
                raise InputError(f"{shard} ends within {name}: it was cut off, fetch or write it again")
            if (folder, stem) != last:
                samples.append(Sample(f"{folder}/{stem}" if folder else stem, {}))
                last = (folder, stem)
            samples[-1].files[extension.lower()] = place
    return samples


def _shard(shards: Sequence[Path], sample: Sample) -> Path:
    return shards[next(iter(sample.files.values())).shard]


def _image(shards: Sequence[Path], sample: Sample, asked: str | None) -> Place:
    fitting = [e for e in sample.files if (e == asked.lower() if asked else f".{e.rpartition('.')[2]}" in EXTENSIONS)]
    if len(fitting) == 1:
        return sample.files[fitting[0]]
    raise InputError(
        f"sample {sample.key} of {_shard(shards, sample)} has {len(fitting)} images among {', '.join(sample.files)}, "
        "expected one: set dataset.image_key to the extension of the images"
    )


def _label_key(root: Path, samples: Sequence[Sample]) -> str:
    there = sorted({extension for sample in samples for extension in sample.files})
    found = next((key for key in LABEL_KEYS if key in there), "json" if "json" in there else None)
    if found is None:
        raise InputError(
            f"the training shards in {root} have files {', '.join(there) or 'of no kind'}, expected labels in "
            f"{', '.join(LABEL_KEYS)} or json: set dataset.label_key to the extension that holds them"
        )
    return found


def _labels(shards: Sequence[Path], samples: Sequence[Sample], key: str) -> list[Any]:
    """Labels of all samples; numbers where all of them are whole numbers."""
    extension, _, field = key.partition(".") if key.startswith("json.") else (key, "", "")
    for sample in samples:
        if extension not in sample.files:
            raise InputError(
                f"sample {sample.key} of {_shard(shards, sample)} has no {extension} file, only "
                f"{', '.join(sample.files)}: set dataset.label_key to an extension that every sample has"
            )
    contents = _contents(shards, [sample.files[extension] for sample in samples])
    names = [f"{extension} file of {sample.key}" for sample in samples]
    values = [_label(c, name, extension.endswith("json"), field) for c, name in zip(contents, names, strict=True)]
    texts = [v for v in values if isinstance(v, str)]
    whole = texts and len(texts) == len(values) and all(re.fullmatch(r"-?[0-9]+", text) for text in texts)
    return [int(v) for v in values] if whole else values


def _label(content: bytes, name: str, is_json: bool, field: str) -> Any:
    try:
        text = content.decode("utf-8").strip()
        value = json.loads(text) if is_json else text or None
    except ValueError as error:
        raise InputError(f"the {name} is no text ({error}): set dataset.label_key to the labels") from error
    if not isinstance(value, dict):
        return value
    found = field or next((f for f in JSON_FIELDS if f in value), "")
    if found not in value:
        raise InputError(
            f"the {name} has no field {field or ' or '.join(JSON_FIELDS)}, only {', '.join(value)}: set "
            "dataset.label_key=json.<field>"
        )
    return value[found]
