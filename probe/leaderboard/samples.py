"""The rows that runs got most confidently wrong, for the page: thumbnails and texts, and what a prediction rests on."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probe.core.base import Dataset, Partition
from probe.core.errors import InputError, ProbeError
from probe.core.escaping import one_line
from probe.core.images import to_rgb
from probe.core.texts import Text
from probe.leaderboard.evidence import evidence
from probe.results.reader import read_predictions, read_result

MAX_BYTES = 1_200_000
"""Of thumbnails and texts on the page; rows that do not fit are shown by their number."""
MAX_LOOKED = 40
"""Runs whose heads are read for neighbours and attention."""
SIDE = 56
MAX_TEXT = 280
DatasetOf = Callable[[Mapping[str, Any]], Dataset]


@dataclass
class Looked:
    """What was found: dataset fingerprint -> partition -> row -> its picture (`image`) or text (`text`).

    Attributes:
        notes: What could not be shown, a sentence each.
    """

    samples: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    used: int = 0

    def add(self, fingerprint: str, name: str, partition: Partition, row: int) -> None:
        """Adds a row, unless it is there or does not fit."""
        there = self.samples.setdefault(fingerprint, {}).setdefault(name, {})
        if str(row) in there or self.used > MAX_BYTES:
            return
        if (shown := shown_row(partition[row])) is not None:
            self.used += len(shown[1]) + 20
            if self.used <= MAX_BYTES:
                there[str(row)] = shown


def gather(runs: Sequence[tuple[Mapping[Any, Any], dict[str, Any]]], dataset_of: DatasetOf | None) -> Looked:
    """Looks up the worst rows of runs; what their predictions rest on is added to the runs.

    Args:
        runs: Flat records, and what the page tells of each.
        dataset_of: From a record to its dataset; without it nothing is looked up.
    """
    looked = Looked()
    datasets: dict[str, Dataset | None] = {}
    n_heads = 0
    if dataset_of is None:
        return looked
    for run, told in runs:
        wrong = told["detail"].get("wrong") or []
        if not wrong:
            continue
        try:
            result = read_result(run["folder"])
        except InputError:  # gone since its drawings were made
            continue
        rows, where = [row for row, *_ in wrong], _partition_of(result)
        told["detail"]["partition"] = where
        if n_heads < MAX_LOOKED and (found := evidence(run["folder"], result, where, rows)):
            told["detail"]["evidence"] = found
            n_heads += 1
        if (key := run["dataset.fingerprint"]) not in datasets:
            datasets[key] = _dataset(run, result, dataset_of, looked)
        if (dataset := datasets[key]) is not None:
            _look(looked, dataset, key, told["detail"], where, rows)
    return looked


def _look(looked: Looked, dataset: Dataset, key: str, told: Mapping[str, Any], where: str, rows: list[int]) -> None:
    wanted = [(where, row) for row in rows]
    wanted += [(n[0], n[1]) for found in told.get("evidence", {}).get("neighbours", ()) for n in found]
    for name, row in wanted:
        partition = dataset.partitions.get(name)
        if partition is None or row >= len(partition):
            continue
        try:
            looked.add(key, name, partition, row)
        except Exception as error:  # what decoders raise; the page stands without this row
            note = f"Row {row} of {dataset.name}/{name} is not shown: {one_line(error)}"
            if note not in looked.notes:
                looked.notes.append(note)
            return


def _partition_of(result: Mapping[str, Any]) -> str:
    """The partition of the test rows: a protocol without a partition `test` takes them from what it trains on."""
    names = list(result["features"])
    return "test" if "test" in names or not names else str(names[0])


def _dataset(
    run: Mapping[Any, Any], result: Mapping[str, Any], dataset_of: DatasetOf, looked: Looked
) -> Dataset | None:
    """The dataset of a run, if its labels are still those that the run was scored on."""
    try:
        dataset = dataset_of(result)
        partition, kept = dataset.partitions.get(_partition_of(result)), read_predictions(run["folder"], result)
        same = (
            partition is not None
            and list(dataset.class_names) == list(result["dataset"]["class_names"])
            and kept["row"].max() < len(partition)
            and np.array_equal(np.asarray(partition.labels)[kept["row"]], kept["label"])
        )
        if not same:
            raise InputError("its labels are not those that the runs were scored on")
        return dataset
    except Exception as error:  # whatever a dataset of one's own raises; the page stands without its rows
        reason = one_line(error) if isinstance(error, ProbeError) else f"it cannot be read ({one_line(repr(error))})"
        looked.notes.append(f"The rows of {one_line(run['dataset'])} are not shown: {reason}")
        return None


def shown_row(row: Any) -> list[str] | None:
    """A row as the page shows it: `image` and an address that holds it, or `text` and its beginning; else None."""
    from PIL import Image

    if isinstance(row, Image.Image):
        small = to_rgb(row)
        tiny = max(small.size) <= SIDE
        small.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        kind = "png" if tiny else "webp"
        small.save(buffer, kind, optimize=True, quality=70)
        return ["image", f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"]
    if isinstance(row, str | Text):
        parts = [row] if isinstance(row, str) else [part for part in (row.text, row.pair) if part is not None]
        text = one_line(" / ".join(parts))
        return ["text", text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"]
    return None
