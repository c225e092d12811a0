"""Classification sets of torchvision by name, from a local folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from probe.core.base import Dataset, IntArray, Partition
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.datasets.shared.partitions import ArrayPartition, ImageFiles, content_cut, make_dataset

TRAIN_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
TRAIN_VAL_TEST = {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}
FLAG = {"train": {"train": True}, "test": {"train": False}}

SETS: dict[str, tuple[str, dict[str, dict[str, Any]] | None]] = {
    "caltech101": ("Caltech101", None),
    "cifar10": ("CIFAR10", FLAG),
    "cifar100": ("CIFAR100", FLAG),
    "country211": (
        "Country211",
        {"train": {"split": "train"}, "validation": {"split": "valid"}, "test": {"split": "test"}},
    ),
    "dtd": ("DTD", TRAIN_VAL_TEST),
    "eurosat": ("EuroSAT", None),
    "fashion_mnist": ("FashionMNIST", FLAG),
    "fgvc_aircraft": ("FGVCAircraft", TRAIN_VAL_TEST),
    "flowers102": ("Flowers102", TRAIN_VAL_TEST),
    "food101": ("Food101", TRAIN_TEST),
    "gtsrb": ("GTSRB", TRAIN_TEST),
    "imagenette": ("Imagenette", {"train": {"split": "train"}, "test": {"split": "val"}}),
    "mnist": ("MNIST", FLAG),
    "pets": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "stanford_cars": ("StanfordCars", TRAIN_TEST),
    "stl10": ("STL10", TRAIN_TEST),
    "sun397": ("SUN397", None),
    "svhn": ("SVHN", TRAIN_TEST),
}
"""Name: class in torchvision, and what makes each partition of it; None where there is no official test part."""


class Content(NamedTuple):
    """What a torchvision dataset holds: pixels (N, H, W[, 3]) or image files, and labels."""

    pixels: Any
    files: list[str]
    labels: IntArray


def load(name: str = "cifar10", root: str | None = None, download: bool = False, test_fraction: float = 0.5) -> Dataset:
    """Reads a set with its official partitions; torchvision's reader finds files and labels.

    Caltech101, EuroSAT and SUN397 have no official test part: one is cut, stratified, by a digest of the file names.

    Args:
        name: One of `SETS`.
        root: Folder that torchvision calls root, above the set's own folder.
        download: Whether to fetch the set into it.
        test_fraction: Share that tests, of the sets without an official test part.
    """
    if name not in SETS:
        raise InputError(f"torchvision set {name!r} is unknown, expected one of {', '.join(SETS)}: use one of them")
    if root is None:
        raise InputError(f"torchvision set {name} needs a folder, none is given: set dataset.root=<folder>")
    class_name, parts = SETS[name]
    base = Path(root).expanduser()
    sources = {part: _open(class_name, base, download, kw) for part, kw in (parts or {"all": {}}).items()}
    contents = {part: _content(source) for part, source in sources.items()}
    n_classes = max(int(c.labels.max()) for c in contents.values()) + 1
    named = {part: _class_names(source, n_classes) for part, source in sources.items()}
    names = next(iter(named.values()))
    if other := next((part for part, of_part in named.items() if of_part != names), None):
        # Some of torchvision's classes number what folders they find, part by part.
        raise InputError(
            f"the parts of {class_name} in {base} name other classes ({len(names)} of train, {len(named[other])} of "
            f"{other}, or in another order), expected the same: complete the folders, or set dataset.download=true"
        )
    if parts is None:
        contents = _cut(contents["all"], base, test_fraction)
    partitions = {part: _partition(content, base) for part, content in contents.items()}
    return make_dataset(name, names, partitions, rows="images")


def _open(class_name: str, root: Path, download: bool, kwargs: dict[str, Any]) -> Any:
    import torchvision.datasets

    try:
        return getattr(torchvision.datasets, class_name)(str(root), download=download, **kwargs)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"torchvision found no whole {class_name} in {root} ({reason}): give its root, or set "
            f"dataset.download=true, which runs torchvision.datasets.{class_name}({str(root)!r}, download=True)"
        ) from error


def _content(source: Any) -> Content:
    """Pixels or files, and labels, from where torchvision's classes keep them."""
    samples = getattr(source, "_samples", getattr(source, "samples", None))
    if samples is not None:
        return Content(None, [str(f) for f, _ in samples], np.asarray([y for _, y in samples], dtype=np.int64))
    files = getattr(source, "_image_files", getattr(source, "_images", None))
    if files is not None:
        return Content(None, [str(f) for f in files], np.asarray(source._labels, dtype=np.int64))
    if hasattr(source, "categories"):  # Caltech101
        folder = Path(source.root) / "101_ObjectCategories"
        pairs = zip(source.y, source.index, strict=True)
        files = [str(folder / source.categories[y] / f"image_{i:04d}.jpg") for y, i in pairs]
        return Content(None, files, np.asarray(source.y, dtype=np.int64))
    pixels = np.asarray(source.data)
    if pixels.ndim == 4 and pixels.shape[1] == 3:  # SVHN and STL10 keep channels first
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = source.targets if hasattr(source, "targets") else source.labels
    return Content(pixels, [], np.asarray(labels, dtype=np.int64))


def _class_names(source: Any, n_classes: int) -> list[str]:
    names = getattr(source, "classes", None) or getattr(source, "categories", None)
    return [str(name) for name in names] if names else [str(k) for k in range(n_classes)]


def _cut(content: Content, root: Path, fraction: float) -> dict[str, Content]:
    digests = [hash_bytes(os.path.relpath(file, root).encode()) for file in content.files]
    test = content_cut(digests, content.labels, fraction)
    rows = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return {part: Content(None, [content.files[i] for i in r], content.labels[r]) for part, r in rows.items()}


def _partition(content: Content, root: Path) -> Partition:
    if content.pixels is None:
        return ImageFiles(root, [Path(os.path.relpath(f, root)).as_posix() for f in content.files], content.labels)
    return ArrayPartition(content.pixels, content.labels, [str(row) for row in range(len(content.labels))])


def spelled(name: str) -> dict[str, str] | None:
    """The settings that a set of torchvision's, taken for a dataset, stands for."""
    return {"name": name.lower()} if name.lower() in SETS else None
