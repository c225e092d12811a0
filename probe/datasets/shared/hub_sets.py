"""Sets that the library `datasets` of Hugging Face opens, and which of their splits are partitions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.core.errors import InputError

SPLITS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val", "valid", "dev")}
READERS = {
    ".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json", ".tar": "webdataset",
}  # fmt: skip
"""Suffix of a single file: the reader of `datasets`."""


def open_set(path: str, config_name: str | None, revision: str | None) -> Mapping[str, Any]:
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


def splits_of(
    opened: Mapping[str, Any], path: str, asked: Mapping[str, str] | None, cut: bool, learnt: bool = True
) -> dict[str, str]:
    """The name of each partition's split; where nothing is learnt, train need not be there."""
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
    if "train" not in chosen and (learnt or not chosen):
        raise InputError(
            f"{path} has the splits {', '.join(there)}, expected train and test: name them with "
            f"dataset.splits='{{train: {there[0]}, test: {there[-1]}}}', or cut a part with dataset.test_fraction=0.2"
        )
    return chosen


def values_of(rows: Any, column: str) -> list[Any]:
    """All values of a column, without decoding any image."""
    return list(rows.select_columns([column]).with_format("arrow")[:].column(column).to_pylist())


def described(features: Mapping[str, Any]) -> dict[str, str]:
    """Columns and what they hold, for errors."""
    return {name: str(getattr(kind, "dtype", None) or type(kind).__name__) for name, kind in features.items()}
