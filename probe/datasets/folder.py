"""Images in one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.images import EXTENSIONS
from probe.datasets.shared.labels import read_class_names
from probe.datasets.shared.partitions import ImageFiles, make_dataset

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val")}
"""Names of folders that each partition may have."""


def load(
    path: str | None = None,
    name: str | None = None,
    follow_links: bool = False,
    class_names: str | Sequence[str] | None = None,
    ignore_label: str | None = None,
) -> Dataset:
    """Reads `<path>/<partition>/<class>/**/<image>` with the partitions train, test and, optionally, validation or val.

    Without a test folder, as in ImageNet, validation is the test partition. Rows are sorted by class, then by path.
    Hidden files and files that are no images by their extension are passed over.

    Args:
        path: The folder.
        name: How tables call the dataset; the folder's name by default.
        follow_links: Symbolic links that lead out of the folder are refused unless this is true; links inside it are
            followed either way.
        class_names: What the classes are called: a list, or a text file with one name per line, in the sorted order of
            the class folders, or with the folder first on each line (`n01440764 tench`); `imagenet` takes the names
            that timm knows for folders named by WordNet synset. By default they are called as their folders.
        ignore_label: A class folder that is left out.
    """
    root = _root(path)
    found = {part: _files(root, part, follow_links) for part in _partition_folders(root)}
    if ignore_label is not None:
        found = _without(root, found, str(ignore_label))
    notes = {}
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
        notes["test"] = "the validation folder: there is no test folder"
    folders = _class_folders(root, found)
    partitions = {}
    for part, files in found.items():
        ids = [file for c in folders for file in files.get(c, [])]
        counts = [len(files.get(c, [])) for c in folders]
        partitions[part] = ImageFiles(root, ids, np.repeat(np.arange(len(folders)), counts))
    return make_dataset(name or root.resolve().name, _class_names(folders, class_names), partitions, notes)


def _root(path: str | None) -> Path:
    if path is None:
        raise InputError(
            "dataset=folder needs a folder, none is given: set dataset.path=<folder with train/ and test/>"
        )
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"dataset.path {path} is no folder, expected one with train/ and test/: give its path")
    return root


def _partition_folders(root: Path) -> dict[str, str]:
    """Which partition lies in which folder."""
    folders = {}
    for part, names in PARTITIONS.items():
        present = [name for name in names if (root / name).is_dir()]
        if len(present) > 1:
            raise InputError(f"{root} has both {' and '.join(present)}, expected one of them: rename the other")
        if present:
            folders[part] = present[0]
    if "train" not in folders or len(folders) < 2:
        there = sorted(entry.name for entry in root.iterdir())
        raise InputError(
            f"{root} has {', '.join(there[:10]) or 'nothing'}{', ...' if len(there) > 10 else ''}, expected folders "
            "train/ and test/ (or val/) with one folder per class in each: arrange the images so"
        )
    return folders


def _files(root: Path, part: str, follow_links: bool) -> dict[str, list[str]]:
    """Image files of each class, as sorted paths below the root."""
    folder = next(root / name for name in PARTITIONS[part] if (root / name).is_dir())
    inside = os.path.realpath(root)
    _check_link(folder, inside, follow_links)
    loose = [e.name for e in os.scandir(folder) if e.is_file() and _is_image(e.name)]
    if loose:
        raise InputError(
            f"{folder} holds {len(loose)} images beside its class folders ({sorted(loose)[0]}), expected a folder per "
            "class: move each image into the folder of its class"
        )
    classes = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    return {
        c: sorted(p.relative_to(root).as_posix() for p in _images(folder / c, inside, follow_links, ()))
        for c in classes
    }


def _images(folder: Path, inside: str, follow_links: bool, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"{folder} is a symbolic link to a folder above it, expected no loops: remove the link")
    _check_link(folder, inside, follow_links)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _images(folder / entry.name, inside, follow_links, (*above, real))
            elif _is_image(entry.name):
                if entry.is_symlink():
                    _check_link(folder / entry.name, inside, follow_links)
                yield folder / entry.name


def _check_link(path: Path, inside: str, follow_links: bool) -> None:
    real = os.path.realpath(path)
    if not os.path.exists(real):
        raise InputError(f"{path} is a symbolic link to {real}, which does not exist: remove or mend the link")
    if not follow_links and os.path.commonpath([inside, real]) != inside:
        raise InputError(
            f"{path} is a symbolic link out of the dataset's folder, to {real}: copy what it points to, or set "
            "dataset.follow_links=true if it is meant to be there"
        )


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _without(root: Path, found: dict[str, dict[str, list[str]]], ignored: str) -> dict[str, dict[str, list[str]]]:
    there = sorted({c for classes in found.values() for c in classes})
    if ignored not in there:
        raise InputError(
            f"{root} has no class folder {ignored!r}, only {', '.join(there[:10])}{', ...' if len(there) > 10 else ''}"
            ": mend or leave out dataset.ignore_label"
        )
    return {part: {c: files for c, files in classes.items() if c != ignored} for part, classes in found.items()}


def _class_folders(root: Path, found: dict[str, dict[str, list[str]]]) -> list[str]:
    """The class folders, which must be the same in every partition; those of validation may be fewer."""
    train = set(found["train"])
    faults = []
    for part in found.keys() - {"train"}:
        surplus, lacking = sorted(found[part].keys() - train), sorted(train - found[part].keys())
        if surplus:
            faults.append(f"{part} has {len(surplus)} class folders that train lacks ({', '.join(surplus[:3])})")
        if lacking and part == "test":
            faults.append(f"{part} lacks {len(lacking)} class folders of train ({', '.join(lacking[:3])})")
    if faults:
        raise InputError(
            f"the class folders of {root} differ: {'; '.join(sorted(faults))}; expected the same in train and test: "
            "rename or add folders (an empty one will do in test)"
        )
    return sorted(train)


def _class_names(folders: list[str], asked: str | Sequence[str] | None) -> list[str]:
    """Names in the order of the folders; where two are called alike, the folder stands behind the name."""
    given = _synset_names(folders) if asked == "imagenet" else read_class_names(asked)
    if given is None:
        return folders
    words = {line.partition(" ")[0]: line.partition(" ")[2].strip() for line in given}
    if all(words.get(folder) for folder in folders):
        given = [words[folder] for folder in folders]
    elif len(given) != len(folders):
        raise InputError(
            f"dataset.class_names has {len(given)} names and there are {len(folders)} class folders "
            f"({', '.join(folders[:3])}, ...), expected a name for each, or lines with the folder first: mend it"
        )
    return [f"{c} ({folder})" if given.count(c) > 1 else c for c, folder in zip(given, folders, strict=True)]


def _synset_names(folders: list[str]) -> list[str]:
    """First lemma of each WordNet synset, such as `tench` for n01440764."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k-ms")
    known = set(info.label_names())
    unknown = [folder for folder in folders if folder not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} class folders are no synsets of ImageNet, the first is {unknown[0]}: expected names such "
            "as n01440764, or give the names as a list or a file in dataset.class_names"
        )
    return [info.label_name_to_description(folder).partition(",")[0] for folder in folders]
