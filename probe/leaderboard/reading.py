"""Reads runs and checks that their metrics are those of their predictions: together where they test the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.targets import named
from probe.leaderboard.records import METRIC, Predictions, flat_record, gives, has_bits, metric_of, row_values
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.scores import restored
from probe.results.reader import read_predictions, read_result
from probe.results.schema import PREDICTIONS, RESULT

BATCH_BYTES = 2**24
"""Of predictions that are held at once: many runs, of which many are alike. A call of numpy costs more than the rows
that it is for, where these are some hundreds."""
MISREAD = (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError)
"""What records raise that lack a field or hold a wrong type."""
Found = dict[str, Any] | InputError


class _Opened(NamedTuple):
    """A run whose metrics are still to be checked."""

    record: dict[str, Any]
    predictions: Predictions
    metrics: tuple[str, ...]


def read_run(folder: str | Path) -> dict[str, Any]:
    """One run as a flat record, after checking that its metrics are those of its predictions.

    Raises:
        InputError: It cannot be counted.
    """
    (found,) = read_runs([folder])
    if isinstance(found, InputError):
        raise found
    return found


def read_runs(folders: Iterable[str | Path]) -> Iterator[Found]:
    """Each run as `read_run` gives it, in order; of one that cannot be counted the error that says why."""
    batch: list[_Opened | InputError] = []
    size = 0
    for folder in folders:
        batch.append(opened := _opened(folder))
        size += 0 if isinstance(opened, InputError) else sum(array.nbytes for array in opened.predictions.values())
        if size > BATCH_BYTES:
            yield from _checked(batch)
            batch, size = [], 0
    yield from _checked(batch)


def _opened(folder: str | Path) -> _Opened | InputError:
    try:
        result = read_result(folder)
        predictions, record = read_predictions(folder, result), flat_record(result)
        lengths = {len(array) for array in predictions.values()}
        if lengths not in ({record["n_test"]}, {record["n_test"] - record["skipped"]}) or lengths == {0}:
            raise InputError(
                f"{PREDICTIONS} has {' or '.join(map(str, sorted(lengths)))} rows, {RESULT} says {record['n_test']} "
                f"with {record['skipped']} skipped: files of two runs?"
            )
        return _Opened(record, predictions, tuple(result["metrics"]))
    except InputError as error:
        return error
    except MISREAD as error:
        return _misread(error)


def _misread(error: Exception) -> InputError:
    return InputError(f"{RESULT} or {PREDICTIONS} lacks a field or holds a wrong type ({error!r})")


def _checked(batch: Sequence[_Opened | InputError]) -> list[Found]:
    found: dict[int, Found] = {}
    alike: dict[object, list[int]] = {}
    for i, run in enumerate(batch):
        if isinstance(run, InputError):
            found[i] = run
        else:
            alike.setdefault(_kind(run), []).append(i)
    for members in alike.values():
        runs = [run for i in members if isinstance(run := batch[i], _Opened)]
        found |= zip(members, _checked_alike(runs), strict=True)
    return [found[i] for i in range(len(batch))]


def _kind(run: _Opened) -> tuple[Any, ...]:
    """What runs have in common that are checked together: target, labels, metrics, and the kinds of their arrays.

    Arrays of other kinds would be converted when they are stacked, and might count where they alone are refused. Shapes
    of the same number of axes may differ: the fullest image of a run says how many cells a confusion has.
    """
    record, predictions, metrics = run
    arrays = frozenset((name, array.dtype.str, array.ndim) for name, array in predictions.items())
    labels = (predictions["label"].shape, predictions["label"].tobytes()) if "label" in predictions else None
    return record["dataset.target"], record["n_classes"], record["own_metrics"], metrics, arrays, labels


def _checked_alike(runs: Sequence[_Opened]) -> list[Found]:
    """Of runs of one kind; where something cannot be read each is looked at alone, so that the right one is named."""
    try:
        return _Alike(runs).checked()
    except InputError as error:
        alone = error
    except MISREAD as error:
        alone = _misread(error)
    return [alone] if len(runs) == 1 else [found for run in runs for found in _checked_alike([run])]


class _Alike:
    """B runs of one kind.

    Args:
        runs: These.
    """

    def __init__(self, runs: Sequence[_Opened]):
        self._runs = runs
        record, predictions, names = runs[0]
        if wrong := named(record["dataset.target"]).fits_record(predictions["label"], record["n_classes"]):
            raise InputError(f"labels in {PREDICTIONS} {wrong}")
        ranked = [metric for name in names if (metric := metric_of(record, name)).can_rank]
        self._metrics = [metric for metric in ranked if gives(metric, predictions)]

    def checked(self) -> list[Found]:
        """The records; an error in the place of one with a metric that its predictions do not give."""
        bits: list[bytes] = []
        wrong: dict[int, InputError] = {}
        for metric in self._metrics:
            if math.isinf(metric.tolerance):  # not checked
                continue
            rows = self._rows(metric)
            if has_bits(metric) and not bits:
                bits = [packed.tobytes() for packed in np.packbits(rows > 0, axis=1)]
            for i, error in self._wrong(metric, rows):
                wrong.setdefault(i, error)
        n_scored = len(self._runs[0].predictions["row"])
        return [
            wrong.get(i) or run.record | {"n_scored": n_scored, "correct": bits[i] if bits else b""}
            for i, run in enumerate(self._runs)
        ]

    def _wrong(self, metric: Metric, rows: NDArray[np.float64]) -> Iterator[tuple[int, InputError]]:
        """The runs that do not record what (B, N) values per row give: somebody changed one of the two."""
        values = rows.mean(axis=1)
        # Some rows are not looked at; telling so beforehand would take twice as long.
        values = np.nanmean(rows, axis=1) if np.isnan(values).any() else values
        name, tolerance = metric.name, metric.tolerance
        for i, (run, value) in enumerate(zip(self._runs, values.tolist(), strict=True)):
            stated = run.record[f"{METRIC}{name}"]
            if not abs(value - stated) <= tolerance * max(1.0, abs(value)):
                told = f"{name} is recorded as {stated:.6g}, its predictions give {value:.6g}: edited by hand"
                yield i, InputError(told)

    def _rows(self, metric: Metric) -> NDArray[np.float64]:
        """(B, N) what each row adds to a metric."""
        is_kept = f"{METRIC}{metric.name}" in self._runs[0].predictions
        if len(self._runs) > 1 and (is_kept or metric.stacks):
            return row_values(metric, self._stacked, None if is_kept else self._stacked_scores)
        of_each = zip(self._runs, self._scores, strict=True)
        return np.array([row_values(metric, run.predictions, scores) for run, scores in of_each])

    @cached_property
    def _stacked(self) -> Predictions:
        """The arrays that are looked at for all runs at once, (B, N); the labels, which are the same, once."""
        names = {f"{METRIC}{metric.name}" for metric in self._metrics}
        names |= {name for metric in self._metrics if metric.stacks for name in metric.needs}
        first = self._runs[0].predictions
        found = {name: np.stack([run.predictions[name] for run in self._runs]) for name in names & set(first)}
        return found | {"label": first["label"]}

    @cached_property
    def _stacked_scores(self) -> Any:
        return restored(self._stacked, self._runs[0].record["dataset.target"])

    @cached_property
    def _scores(self) -> list[Any]:
        return [restored(run.predictions, run.record["dataset.target"]) for run in self._runs]
