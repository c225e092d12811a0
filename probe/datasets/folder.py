"""Images in one folder per class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.texts import one_spelling
from probe.core.words import counted
from probe.datasets.shared.files_below import check_link, files_below, is_image
from probe.datasets.shared.labels import read_class_names
from probe.datasets.shared.partitions import ImageFiles, make_dataset
from probe.datasets.shared.sources import PARTITION_WORDS, holds, passed_over

PARTITIONS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val")}
"""Names of folders that each partition may have."""


def load(
    path: str | None = None,
    name: str | None = None,
    follow_links: bool = False,
    class_names: str | Sequence[str] | None = None,
    ignore_label: str | None = None,
    ordered: bool = False,
) -> Dataset:
    """Reads `<path>/<partition>/<class>/**/<image>` with the partitions train, test and, optionally, validation or val.

    Without a test folder, as in ImageNet, validation is the test partition. Without any of them `<path>/<class>/**` is
    train, for protocols that draw test rows from it. Rows are sorted by class, then by path. Hidden files are passed
    over, files that are no images by their extension too, with a note that counts them.

    Args:
        path: The folder.
        name: How tables call the dataset; the folder's name by default.
        follow_links: Symbolic links that lead out of the folder are refused unless this is true; links inside it are
            followed either way.
        class_names: What the classes are called: a list, or a text file with one name per line, in the sorted order of
            the class folders, or with the folder first on each line (`n01440764 tench`); `imagenet` takes the names
            that timm knows for folders named by WordNet synset. By default they are called as their folders.
        ignore_label: A class folder that is left out.
        ordered: Whether the classes are grades, from low to high.
    """
    root = _root(path)
    folders = _partition_folders(root)
    read = {part: _files(root, folder, follow_links) for part, folder in folders.items()}
    found = {part: classes for part, (classes, _) in read.items()}
    if ignore_label is not None:
        found = _without(root, found, str(ignore_label))
    notes = {}
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
        notes["test"] = "the validation folder: there is no test folder"
    classes_of = {part: _by_spelling(root, part, classes) for part, classes in found.items()}
    classes = _class_folders(root, classes_of)
    partitions = {}
    for part, files_of in classes_of.items():
        files = [files_of.get(c, ("", []))[1] for c in classes]
        labels = np.repeat(np.arange(len(classes)), [len(of_class) for of_class in files])
        partitions[part] = ImageFiles(root, [file for of_class in files for file in of_class], labels)
    left_out = passed_over((f for _, foreign in read.values() for f in foreign), "no image by its extension")
    if "." not in folders.values():
        left_out += _other_folders(root, set(folders.values()))
    names = _class_names([classes_of["train"][c][0] for c in classes], class_names)
    return make_dataset(
        name or root.resolve().name, names, partitions, notes, left_out=left_out, rows="images", ordered=ordered
    )


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
    """Which partition lies in which folder; where no folder is called as one, the root is train."""
    folders = {}
    for part, names in PARTITIONS.items():
        present = [name for name in names if (root / name).is_dir()]
        if len(present) > 1:
            raise InputError(f"{root} has both {' and '.join(present)}, expected one of them: rename the other")
        if present:
            folders[part] = present[0]
    there = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    classes = [name for name in there if (root / name).is_dir()]
    alike = [name for name in classes if name.lower() in PARTITION_WORDS]
    if not alike and len(classes) > 1:
        return {"train": "."}
    # A lone train/ beside other folders is more likely one whose test/ is called otherwise.
    if "train" not in folders or (len(folders) == 1 and len(classes) > 1):
        raise InputError(
            f"{holds(root)}, expected folders train/ and test/ (or val/) with one folder per class in each, or nothing "
            "but a folder per class: arrange the images so"
        )
    return folders


def _other_folders(root: Path, used: set[str]) -> list[str]:
    others = sorted(e.name for e in root.iterdir() if e.is_dir() and e.name not in used and not e.name.startswith("."))
    return [f"{len(others)} folders that are no partition ({', '.join(others[:3])})"] if others else []


def _files(root: Path, name: str, follow_links: bool) -> tuple[dict[str, list[str]], list[str]]:
    """Image files of each class, as sorted paths below the root, and the files that are no images."""
    folder = root / name
    inside = os.path.realpath(root)
    check_link(folder, inside, follow_links)
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    foreign = [entry.name for entry in entries if entry.is_file() and not is_image(entry.name)]
    loose = [entry.name for entry in entries if entry.is_file() and is_image(entry.name)]
    if loose:
        raise InputError(
            f"{folder} holds {counted(len(loose), 'image')} beside its class folders ({sorted(loose)[0]}), "
            "expected a folder per "
            "class: move each image into the folder of its class"
        )
    classes = {}
    for c in sorted(entry.name for entry in entries if entry.is_dir()):
        files = list(files_below(folder / c, inside, follow_links))
        classes[c] = sorted(p.relative_to(root).as_posix() for p in files if is_image(p.name))
        foreign += [p.name for p in files if not is_image(p.name)]
    return classes, foreign


def _without(root: Path, found: dict[str, dict[str, list[str]]], ignored: str) -> dict[str, dict[str, list[str]]]:
    there = sorted({c for classes in found.values() for c in classes})
    spelling = one_spelling(ignored)
    if spelling not in map(one_spelling, there):
        raise InputError(
            f"{root} has no class folder {ignored!r}, only {', '.join(there[:10])}{', ...' if len(there) > 10 else ''}"
            ": mend or leave out dataset.ignore_label"
        )
    return {
        part: {c: files for c, files in classes.items() if one_spelling(c) != spelling}
        for part, classes in found.items()
    }


Classes = dict[str, tuple[str, list[str]]]
"""Of each class, by its name with composed accents: the name of its folder, and its files."""


def _by_spelling(root: Path, part: str, classes: dict[str, list[str]]) -> Classes:
    found: Classes = {}
    for folder, files in classes.items():
        if one_spelling(folder) in found:
            raise InputError(
                f"{part} of {root} has two folders called {folder}, whose accents are stored in two ways (NFC and "
                "NFD), expected one: move the files of one into the other"
            )
        found[one_spelling(folder)] = (folder, files)
    return found


def _class_folders(root: Path, found: Mapping[str, Classes]) -> list[str]:
    """The classes in order, which must be the same in every partition; those of validation may be fewer."""
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
    return sorted(train, key=lambda c: found["train"][c][0])


def _class_names(folders: list[str], asked: str | Sequence[str] | None) -> list[str]:
    """Names in the order of the folders; where two are called alike, the folder stands behind the name."""
    given = _synset_names(folders) if asked == "imagenet" else read_class_names(asked)
    if given is None:
        return folders
    words = {one_spelling(line.partition(" ")[0]): line.partition(" ")[2].strip() for line in given}
    if all(words.get(one_spelling(folder)) for folder in folders):
        given = [words[one_spelling(folder)] for folder in folders]
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
