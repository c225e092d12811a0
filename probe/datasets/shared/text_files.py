"""A file per text, in a folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from probe.core.base import Partition
from probe.core.errors import InputError
from probe.core.texts import Text, one_spelling, read_text
from probe.core.words import counted
from probe.datasets.shared.labels import encode_labels, read_class_names
from probe.datasets.shared.sources import PARTITION_WORDS, passed_over
from probe.datasets.shared.split_tables import PARTITIONS
from probe.datasets.shared.text_rows import TextPartition

ENDING = ".txt"


def read_folder(
    root: Path,
    encoding: str | None,
    class_names: str | Sequence[str] | None,
    ignore_label: int | str | None,
    shorter: Callable[[str], str | Text],
) -> tuple[dict[str, Partition], list[str], list[str]]:
    """Partitions, class names, and what is left out, of `<partition>/<class>/**/*.txt` or `<class>/**/*.txt`.

    Rows are sorted by class, then by path, which is their id; `shorter` makes a row of each text. Hidden files are
    passed over.

    Raises:
        InputError: No folder of texts, no class folders, or two folders for one partition.
    """
    folders = _partition_folders(root)
    files = {part: _files(folder) for part, folder in folders.items()}
    left_out = passed_over(
        (f.name for folder in folders.values() for f in _below(folder) if f.suffix.lower() != ENDING),
        f"no {ENDING} by their ending",
    )
    raw = {part: [one_spelling(name) for name, _ in found] for part, found in files.items()}
    given = read_class_names(class_names, encoding)
    codes, names = encode_labels(raw, f"the folders of {root}", None, ignore_label)
    if given is not None and len(given) != len(names):
        raise InputError(
            f"dataset.class_names has {len(given)} names and {root} {len(names)} class folders, expected a name for "
            "each, in their order: mend them"
        )
    partitions: dict[str, Partition] = {}
    for part, found in files.items():
        remedy = "save it as UTF-8, or set dataset.encoding=latin-1"
        texts = [shorter(read_text(file, encoding, remedy)) for _, file in found]
        ids = [file.relative_to(root).as_posix() for _, file in found]
        partitions[part] = TextPartition(texts, codes[part], ids)
    return partitions, given or names, left_out


def _partition_folders(root: Path) -> dict[str, Path]:
    folders = {}
    for part, words in PARTITIONS.items():
        there = [root / word for word in words if (root / word).is_dir()]
        if len(there) > 1:
            raise InputError(
                f"{root} has {' and '.join(f.name for f in there)}, expected one of them: rename the other"
            )
        if there:
            folders[part] = there[0]
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders and len(classes) > 1 and not any(name.lower() in PARTITION_WORDS for name in classes):
        return {"train": root}
    if "train" not in folders:
        raise InputError(
            f"{root} has {', '.join(sorted(e.name for e in root.iterdir())[:10]) or 'nothing'}, expected a table "
            "train.csv (.tsv, .jsonl, .parquet), or folders train/ and test/ with one folder of .txt per class, or "
            "nothing but a folder per class: arrange the texts so"
        )
    if "test" not in folders and "validation" in folders:
        folders["test"] = folders.pop("validation")
    return folders


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Class and path of every text below a folder."""
    found = [(f.relative_to(folder).parts[0], f) for f in _below(folder) if f.suffix.lower() == ENDING]
    loose = [file.name for name, file in found if file.parent == folder]
    if loose:
        raise InputError(
            f"{folder} holds {counted(len(loose), 'text')} beside its class folders ({loose[0]}), expected a "
            "folder per class: "
            "move each into the folder of its class"
        )
    return sorted(found, key=lambda pair: (pair[0], pair[1].as_posix()))


def _below(folder: Path) -> list[Path]:
    files = (f for f in folder.rglob("*") if f.is_file())
    return sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))
