"""What every test row adds to the cells of a table: from the bits in the index, or from the predictions of the runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.leaderboard.leads import Draws
from probe.leaderboard.records import METRIC, has_bits, row_values
from probe.leaderboard.statistics import Scores, scores, scores_of_systems
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.scores import restored
from probe.results.reader import read_predictions

if TYPE_CHECKING:
    import pandas as pd

RUN_FIELDS = (
    "number", "dataset.test_rows", "n_scored", "folder", "correct", "skipped", "dataset.target", "n_folds", "n_learnt",
)  # fmt: skip


class RowScores(Mapping[tuple[str, str], Scores]):
    """Row values of every cell, by (row, column); within a column all on common places for the test rows.

    A column is read when somebody asks for a cell of it.

    Args:
        frame: Runs with their `row` and `column`.
        metric: Of the values.
    """

    def __init__(self, frame: pd.DataFrame, metric: Metric):
        number = frame["seed"] * frame["n_folds"].clip(lower=1) + frame["fold"]
        frame = frame.assign(number=number, n_learnt=frame["n_train"] + frame["n_validation"])
        self._frame = frame[[*RUN_FIELDS, f"{METRIC}{metric.name}"]]
        self._number, self._n_scored = frame["number"].to_numpy(), frame["n_scored"].to_numpy()
        self._bits = frame["correct"].to_numpy(dtype=object)
        self._metric = metric
        self._names = frame["digest"].tolist()
        tested = frame[["column", "dataset.fingerprint", "dataset.test_rows"]].drop_duplicates()
        self._tested: dict[str, list[tuple[str, str]]] = {}
        for column, *rows in sorted(tested.itertuples(index=False, name=None)):
            self._tested.setdefault(column, []).append(tuple(rows))
        self._made: dict[str, dict[str, Scores]] = {}
        self._digests: dict[tuple[str, tuple[str, ...]], str] = {}
        self._named: dict[str, tuple[str, dict[str, str]]] = {}
        self._of_bits = _of_bits(frame) if has_bits(metric) else set()
        self.systems: dict[str, dict[str, list[int]]] = {}
        """Column -> row -> places of its runs in the frame."""
        for column, row, places in _cells(frame["column"].tolist(), frame["row"].tolist()):
            self.systems.setdefault(column, {})[row] = places

    def __getitem__(self, key: tuple[str, str]) -> Scores:
        row, column = key
        if column not in self._made:
            self._made[column] = self._read(self.systems[column])
        return self._made[column][row]

    def __contains__(self, key: object) -> bool:
        row, column = key if isinstance(key, tuple) else (None, None)
        return row in self.systems.get(column, {})

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((row, column) for column, systems in self.systems.items() for row in systems)

    def __len__(self) -> int:
        return sum(map(len, self.systems.values()))

    def digest(self, column: str, rows: Sequence[str]) -> str:
        """Of the scores of some rows of a column, in order; "" where more than bits of the index goes into them."""
        key = (column, tuple(rows))
        if key not in self._digests:
            self._digests[key] = self._digest(column, rows)
        return self._digests[key]

    def draws(self, column: str, rows: Sequence[str]) -> Draws:
        """What names the random numbers of some rows of a column: the runs, whatever they are called and come after."""
        if column not in self._named:
            systems = self.systems[column]
            named = {row: min([self._names[i] for i in own]) for row, own in systems.items()}
            self._named[column] = digest(self._tested[column]), named
        tested_rows, systems_named = self._named[column]
        return Draws(tested_rows, [systems_named[row] for row in rows])

    def _digest(self, column: str, rows: Sequence[str]) -> str:
        if column not in self._of_bits:
            return ""
        systems = self.systems[column]
        runs = [i for row in rows for i in systems[row]]
        n_scored, numbers = int(self._n_scored[runs[0]]), self._number[runs].tolist()
        told = json.dumps([n_scored, numbers, [len(systems[row]) for row in rows]])
        return hash_bytes(b"".join([told.encode(), *self._bits[runs]]))

    def _read(self, systems: Mapping[str, list[int]]) -> dict[str, Scores]:
        metric, members = self._metric, [i for own in systems.values() for i in own]
        frame = self._frame.take(members)
        fields = [frame[name].tolist() for name in frame.columns]
        runs = dict(zip(members, zip(*fields, strict=True), strict=True))
        values = _bits(runs, members) if has_bits(metric) else {i: _values(runs[i], metric) for i in members}
        looked_at = {} if has_bits(metric) else {i: ~np.isnan(v) for i, v in values.items()}
        places, n_rows = _places(runs, members, looked_at)
        if places is None and not any(runs[i][7] for i in members):
            seeds = [[runs[i][0] for i in own] for own in systems.values()]
            told = scores_of_systems([[values[i] for i in own] for own in systems.values()], seeds)
            return dict(zip(systems, told, strict=True))
        found: dict[str, Scores] = {}
        for row, own in systems.items():
            where = None if places is None else [places[i] for i in own]
            of_rows = [values[i][looked_at[i]] if looked_at else values[i] for i in own]
            learnt = np.mean([runs[i][8] for i in own])
            found[row] = scores(of_rows, where, [runs[i][0] for i in own], n_rows, runs[own[0]][7], learnt)
        return found


def _cells(columns: Sequence[str], rows: Sequence[str]) -> Iterator[tuple[str, str, list[int]]]:
    """Column, row and places of the runs of each cell, in the order of their names."""
    column_names, row_names = sorted(set(columns)), sorted(set(rows))
    column_at, row_at = ({name: i for i, name in enumerate(names)} for names in (column_names, row_names))
    cell = np.array([column_at[column] for column in columns]) * len(row_names)
    cell += np.array([row_at[row] for row in rows])
    order = np.argsort(cell, kind="stable")
    kinds, starts = np.unique(cell[order], return_index=True)
    for kind, places in zip(kinds.tolist(), np.split(order, starts)[1:], strict=True):
        column, row = divmod(kind, len(row_names))
        yield column_names[column], row_names[row], places.tolist()


def _of_bits(frame: pd.DataFrame) -> set[str]:
    """Columns of which the scores follow from bits alone: all runs test the same rows, skip none and are no folds.

    All that stand in the column count: what one of them skips or tests besides gives the others other places.
    """
    of_column = frame.groupby("column", sort=False)
    alike = (of_column[["dataset.test_rows", "n_scored"]].nunique() == 1).all(axis=1)
    return set(alike[alike & (of_column[["skipped", "n_folds"]].max() == 0).all(axis=1)].index)


def _all_alike(runs: Any, members: Sequence[int]) -> bool:
    """Whether all runs test the same rows and skip none."""
    return len({(runs[i][1], runs[i][2]) for i in members}) == 1 and not any(runs[i][5] for i in members)


def _places(
    runs: Any, members: Sequence[int], looked_at: Mapping[int, NDArray[np.bool_]]
) -> tuple[dict[int, Any] | None, int]:
    """Places of each run's test rows among all of its column, None where all test the same; and how many there are.

    Rows that the metric does not look at are none of them; where nothing is said, it looks at all.
    """
    if _all_alike(runs, members) and all(mask.all() for mask in looked_at.values()):
        return None, int(runs[members[0]][2])
    tested = {i: read_predictions(runs[i][3])["row"] for i in members}
    tested = {i: rows[looked_at[i]] if looked_at else rows for i, rows in tested.items()}
    every = np.unique(np.concatenate(list(tested.values())))
    return {i: np.searchsorted(every, rows) for i, rows in tested.items()}, len(every)


def _bits(runs: Any, members: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """(N,) whether each test row was right, of every run, as the index has it."""
    if len({runs[i][2] for i in members}) > 1:
        return {i: value for i in members for value in _bits(runs, [i]).values()}
    packed = np.frombuffer(b"".join(runs[i][4] for i in members), np.uint8).reshape(len(members), -1)
    values = np.unpackbits(packed, axis=1, count=runs[members[0]][2]).astype(np.float64)
    return dict(zip(members, values, strict=True))


def _values(run: Any, metric: Metric) -> Any:
    """(N,) values of the test rows of a run, their mean exactly the recorded metric."""
    _, _, _, folder, _, _, target, _, _, recorded = run
    try:
        predictions = read_predictions(folder)
        values = row_values(metric, predictions, restored(predictions, target))
    except InputError as error:
        raise InputError(f"{folder}: {error}, or make the run again with force=true") from None
    return values + (recorded - np.nanmean(values))
