"""Images in tar shards, in the layout of WebDataset: the files of a sample stand together under one key."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from probe.core.base import Dataset, IntArray, digest
from probe.core.errors import InputError
from probe.core.files import remembered
from probe.core.hashing import hash_bytes
from probe.core.images import EXTENSIONS, read_image
from probe.datasets.shared.columns import Role, required
from probe.datasets.shared.labels import encode_labels, numbers_or_names, read_class_names, target_of
from probe.datasets.shared.partitions import check_lengths, make_dataset
from probe.datasets.shared.shards import Place, Sample, contents, expand, index
from probe.datasets.shared.sources import holds, unused_files

PARTITIONS = {"train": ("train", "training"), "test": ("test",), "validation": ("validation", "val", "valid")}
KEY = Role("the classes", "label_key", ("cls",), ("label", "class", "txt", "json"), kind="files")
FIELD = Role(
    "the classes", "label_key", ("json.label",), ("json.cls", "json.class", "json.class_name", "json.target"),
    kind="fields",
)  # fmt: skip


class TarPartition:
    """Images at known places in shards, read and decoded when asked for."""

    def __init__(self, shards: Sequence[Path], images: ArrayLike, ids: Sequence[str], labels: IntArray):
        self.shards, self.labels, self.ids = list(shards), labels, list(ids)
        self._images = np.array(images, dtype=np.int64).reshape(-1, 3)
        check_lengths({"images": len(self._images), "labels": len(self.labels), "ids": len(self.ids)})

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
            return [hash_bytes(content) for content in contents(self.shards, places)]

        return remembered(f"images {hash_bytes(self._images)}", self.shards, compute)

    def _encoded(self, row: int) -> bytes:
        shard, offset, size = (int(value) for value in self._images[row])
        return b"".join(contents(self.shards, [Place(shard, offset, size)]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Image.Image:
        return read_image(self._encoded(int(row)), f"{self.ids[row]} (row {row})")


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
    map_labels: bool = False,
    ordered: bool = False,
) -> Dataset:
    """Reads uncompressed shards; needs `pip install 'probe-bench[webdataset]'`.

    Labels that are all whole numbers are class numbers, others names.

    Args:
        path: Folder with `train-*.tar`, `test-*.tar` and, optionally, `val-*.tar`, perhaps with a word in front, such
            as `imagenet-train-0.tar`; without test, validation tests; shards that name no partition are train.
        name: How tables call the dataset; the folder's name by default.
        train: Shards below `path` instead, with braces for ranges: `a-{000000..000146}.tar`, or a list of such.
        test: Likewise.
        validation: Likewise.
        image_key: Extension of the images; by default every one that Pillow reads, such as `jpg`.
        label_key: Extension of the labels, by default the one of the names in `KEY`; `json.species` names a field of
            `json`, by default the one of the names in `FIELD` that the first training sample has.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        ordered: Whether the classes are grades, from low to high.
    """
    root, found, left_out = _shards(path, {"train": train, "test": test, "validation": validation})
    indexed = {part: index(shards) for part, shards in found.items()}
    samples = {part: of_part for part, (of_part, _) in indexed.items()}
    if n_links := sum(n for _, n in indexed.values()):
        left_out.append(f"{n_links} links in shards")
    key = _label_key(root, samples["train"], label_key)
    images, raw, field = {}, {}, None
    for part, shards in found.items():
        images[part] = _images(shards, samples[part], image_key)
        read = _contents_of_labels(shards, samples[part], key)
        field = _field_name(read, key) if part == "train" else field
        raw[part] = [_field(value, field, name) for name, value in read]
    given = read_class_names(class_names)
    labels = _typed(raw)
    codes, names = encode_labels(labels, f"the {key} files", given, ignore_label, map_labels)
    partitions = {}
    for part, shards in found.items():
        ids = [f"{shards[image.shard].name}:{s.key}" for s, image in zip(samples[part], images[part], strict=True)]
        partitions[part] = TarPartition(shards, images[part], ids, codes[part])
    called = name or root.resolve().name
    return make_dataset(
        called, names, partitions, target=target_of(labels), left_out=left_out, rows="images", ordered=ordered
    )


Shards = tuple[Path, dict[str, list[Path]], list[str]]
"""The folder, the shards of each partition, and what is left out."""


def _shards(path: str | None, asked: dict[str, str | Sequence[str] | None]) -> Shards:
    if path is None and not asked["train"]:
        raise InputError(
            "dataset=webdataset needs shards, none are given: set dataset.path=<folder with train-*.tar and test-*.tar>"
        )
    root = Path(path or ".").expanduser()
    found = {}
    for part, names in PARTITIONS.items():
        pattern = re.compile(rf"(.*[-_.])?({'|'.join(names)})([-_.].*)?\.tar")
        given = asked[part]
        found[part] = (
            [root / file for spec in ([given] if isinstance(given, str) else given) for file in expand(spec)]
            if given
            else sorted(f for f in root.glob("*.tar") if pattern.fullmatch(f.name))
        )
    every = sorted(f for f in root.glob("*.tar") if not f.name.startswith("."))
    if not any(found.values()):
        found["train"] = every
    if not found["test"]:
        found["test"] = found.pop("validation")
    missing = [shard for shards in found.values() for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(f"{len(missing)} shards are no files, the first is {missing[0]}: mend the names or the ranges")
    if not found["train"]:
        raise InputError(
            f"{holds(root)}, expected train-*.tar and test-*.tar (or val-*.tar): give the folder that holds them, or "
            "name the shards in dataset.train and dataset.test"
        )
    used = [shard for shards in found.values() for shard in shards]
    # Where the user names shards, the others are none of the dataset's.
    left_out = [] if asked["train"] else unused_files(root, used, "*.tar*", "named for no partition")
    return root, {part: shards for part, shards in found.items() if shards}, left_out


def _shard(shards: Sequence[Path], sample: Sample) -> Path:
    return shards[next(iter(sample.files.values())).shard]


def _images(shards: Sequence[Path], samples: Sequence[Sample], asked: str | None) -> list[Place]:
    """The image of each sample."""
    keys = [_image_key(shards, sample, asked) for sample in samples]
    kinds = {key.rpartition(".")[0]: row for row, key in enumerate(keys)}
    if len(kinds) > 1:
        # `mask.png` is another kind of image than `jpg`, where `png` is the same.
        told = ", ".join(f"{keys[row]} of {samples[row].key}" for row in kinds.values())
        raise InputError(
            f"samples have images of several kinds ({told}), expected one: set dataset.image_key to the extension of "
            "the images, and leave out samples without one"
        )
    return [sample.files[key] for sample, key in zip(samples, keys, strict=True)]


def _image_key(shards: Sequence[Path], sample: Sample, asked: str | None) -> str:
    fitting = [e for e in sample.files if (e == asked.lower() if asked else f".{e.rpartition('.')[2]}" in EXTENSIONS)]
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(
        f"sample {sample.key} of {_shard(shards, sample)} has {len(fitting)} images among {', '.join(sample.files)}, "
        "expected one (a key ends at the first dot of a name): set dataset.image_key to the extension of the images"
    )


def _label_key(root: Path, samples: Sequence[Sample], asked: str | None) -> str:
    there = dict.fromkeys(sorted({extension for sample in samples for extension in sample.files}), "")
    if asked is not None:
        return asked
    return required(KEY, f"{root}, in its training shards,", there)


def _contents_of_labels(shards: Sequence[Path], samples: Sequence[Sample], key: str) -> list[tuple[str, Any]]:
    """What stands in the label file of each sample: its text, or what JSON makes of it; by the name of the file."""
    extension = _extension(key)
    for sample in samples:
        if extension not in sample.files:
            raise InputError(
                f"sample {sample.key} of {_shard(shards, sample)} has no {extension} file, only "
                f"{', '.join(sample.files)}: set dataset.label_key to an extension that every sample has"
            )
    read = contents(shards, [sample.files[extension] for sample in samples])
    return [
        (f"{extension} file of {sample.key}", _content(content, f"{extension} file of {sample.key}", extension))
        for sample, content in zip(samples, read, strict=True)
    ]


def _extension(key: str) -> str:
    return "json" if key.startswith("json.") else key


def _content(content: bytes, name: str, extension: str) -> Any:
    try:
        text = content.decode("utf-8-sig").strip()
        return json.loads(text, object_pairs_hook=_fields) if extension.endswith("json") else text or None
    except ValueError as error:
        raise InputError(f"the {name} is no text or no JSON ({error}): set dataset.label_key to the labels") from error


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _field_name(read: Sequence[tuple[str, Any]], key: str) -> str | None:
    """The field of JSON that holds the labels, as the first sample of train has it; None where labels stand alone."""
    if key.startswith("json."):
        return key.removeprefix("json.")
    name, value = read[0] if read else ("", None)
    if not isinstance(value, dict):
        return None
    return required(FIELD, f"the {name}", dict.fromkeys((f"json.{n}" for n in value), "")).removeprefix("json.")


def _typed(labels: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Numbers where all labels of all partitions are whole numbers."""
    texts = [value for of_part in labels.values() for value in of_part]
    if not all(isinstance(text, str) for text in texts) or numbers_or_names(texts) is str:
        return labels
    return {part: [int(value) for value in of_part] for part, of_part in labels.items()}


def _field(value: Any, field: str | None, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    if field not in value:
        raise InputError(
            f"the {name} has no field {field}, only {', '.join(value)}: set dataset.label_key=json.<field>"
        )
    return value[field]
