"""Splits as files, so that others can use the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Dataset, Rows, Split
from probe.core.errors import InputError
from probe.core.targets import stored
from probe.core.words import counted
from probe.core.writing import write_file

SCHEMA = 1
PARTS = ("train", "validation", "test")


def write_rows(path: Path, dataset: Dataset, protocol: str, seed: int, split: Split) -> None:
    """Writes the rows of a split as JSON: `{"train": {"partition": "train", "indices": [...]}, ...}`."""
    parts = {name: getattr(split, name) for name in PARTS}
    content = {
        "schema": SCHEMA,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "protocol": protocol,
        "seed": seed,
        **{name: {"partition": rows.partition, "indices": rows.indices.tolist()} for name, rows in parts.items()},
        "folds": None if split.folds is None else split.folds.tolist(),
        "train_labels": None if split.train_labels is None else split.train_labels.tolist(),
    }
    write_file(path, json.dumps(content))


def read_rows(path: Path, dataset: Dataset) -> Split:
    """Reads rows that `write_rows` wrote for this very dataset; refuses any others."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: set protocol.path to a rows.json that a run wrote") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): give a rows.json that a run wrote") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError(f"{path} is no rows.json of schema {SCHEMA}: give one that a run of this version wrote")
    written = content["dataset"]
    if written["fingerprint"] != dataset.fingerprint:
        raise InputError(
            f"{path} names rows of dataset {written['name']} with fingerprint {written['fingerprint']}, but dataset "
            f"{dataset.name} has {dataset.fingerprint}: the content or the order of the rows differs, draw new ones"
        )
    train, validation, test = (_rows(path, name, content[name], dataset) for name in PARTS)
    for rows in (train, validation):
        shared = np.intersect1d(rows.indices, test.indices)
        if rows.partition == test.partition and len(shared):
            raise InputError(
                f"{path} tests on row {shared[0]} of {test.partition}, which trains or validates too "
                f"({len(shared)} such rows): draw new rows"
            )
    folds = content["folds"]
    if folds is not None and len(folds) != len(train):
        raise InputError(f"{path} has {len(folds)} folds for {len(train)} training rows: draw new rows")
    labels = content.get("train_labels")
    if labels is not None and len(labels) != len(dataset.partitions.get("train", ())):
        raise InputError(f"{path} has {len(labels)} labels for the rows of train: draw new rows")
    if not dataset.target.learnt:
        _check_tests_alone(path, dataset, train, validation, test)
    folds = None if folds is None else np.asarray(folds, dtype=np.int64)
    return Split(train, validation, test, folds, None if labels is None else stored(labels))


def _check_tests_alone(path: Path, dataset: Dataset, train: Rows, validation: Rows, test: Rows) -> None:
    """Refuses all but test rows, each once and in their order, as those of a dataset from which nothing is learnt."""
    for name, rows in (("train", train), ("validation", validation)):
        if len(rows):
            raise InputError(
                f"{path} has {counted(len(rows), 'row')} for {name}, expected none: nothing is learnt from dataset "
                f"{dataset.name} with {dataset.target.phrase}, empty its {name}.indices"
            )
    if not len(test):
        raise InputError(f"{path} tests on no row, expected one at least: fill its test.indices, or draw new rows")
    if (np.diff(test.indices) <= 0).any():
        raise InputError(
            f"{path} names test rows twice or out of their order, expected each once and in ascending order: sort its "
            "test.indices"
        )


def _rows(path: Path, name: str, entry: dict[str, Any], dataset: Dataset) -> Rows:
    indices = np.asarray(entry["indices"], dtype=np.int64)
    n = len(dataset.partitions.get(entry["partition"], ()))
    outside = indices[(indices < 0) | (indices >= n)]
    if len(outside):
        raise InputError(
            f"{path} names row {outside[0]} of {entry['partition']} to {name}, which has {n} rows: draw new rows"
        )
    return Rows(entry["partition"], indices)
