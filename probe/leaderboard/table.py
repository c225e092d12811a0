"""Runs into a table: refusals first, then cells with intervals, marks and ranks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.words import counted
from probe.leaderboard import kept_columns, kept_table
from probe.leaderboard.controls import control_notes, held_against_controls
from probe.leaderboard.kept_columns import Arrays, Pieces
from probe.leaderboard.kept_table import Made
from probe.leaderboard.notes import table_notes
from probe.leaderboard.records import METRIC, Problem, Records, metric_of
from probe.leaderboard.refusals import refuse_clashes, tell_apart
from probe.leaderboard.row_scores import RowScores
from probe.leaderboard.select import add_fields, joined, natural
from probe.leaderboard.standings import ranked
from probe.leaderboard.statistics import Scores, intervals
from probe.metrics.shared.metric import Metric, known

if TYPE_CHECKING:
    import pandas as pd

ROWS, COLUMNS = ("backbone", "head"), ("dataset",)


@dataclass(frozen=True)
class Table:
    """One metric of many runs.

    Attributes:
        metric: Its name, as in `result.json`.
        measure: What it is.
        rows: Fields that name a row.
        columns: Fields that name a column.
        cells: One line per row and column that has runs: the fields; `row` and `column` (both as one text); `value`,
            `low`, `high`; `badness`, of which less is better; `n_seeds`, `n_folds` (of all seeds; 0 where runs are no
            folds), `n_test`; `mark` (`best`, `tied` or empty); `not_above` (controls that it is not better than);
            `selectivity` (value less that with shuffled labels); `runs` (their names).
        ranking: One line per row, best first: the fields of the row; `row`; `rank`, `rank_low`, `rank_high` (nan where
            it has none); `note`.
        column_names: In the order in which they are shown.
        notes: What has to be said under the table.
        problems: Folders that are not counted.
        labels: What fields and metrics are called where people read them.
        scores: Row values behind each cell, by (row, column); of a metric whose best value is a target the distances
            from it, of which less is better.
    """

    metric: str
    measure: Metric
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: pd.DataFrame
    ranking: pd.DataFrame
    column_names: list[str]
    notes: list[str]
    problems: list[Problem]
    scores: Mapping[tuple[str, str], Scores]
    labels: Mapping[str, str] = dataclass_field(default_factory=dict)

    def named(self, name: str) -> str:
        """A field or the metric as people read it."""
        return self.labels.get(name, name)

    def column(self, name: str) -> list[Scores]:
        """All systems of a column."""
        return [self.scores[row, column] for row, column in self.scores if column == name]

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better, of the scores behind the cells."""
        return self.measure.better == "higher"


def build_table(
    records: Records,
    metric: str | None = None,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
) -> Table:
    """Makes the table of one metric, by default `top1`; where all runs are on several labels `mAP`, on numbers `r2`.

    Raises:
        InputError: Results that cannot be compared would share a column, or fields or the metric do not exist.
    """
    metric = metric or default_metrics(records.frame)[0]
    key = kept_table.key_of(records, metric, list(rows), list(columns))
    if made := kept_table.load(records, key):
        cells = made.cells
        measure = measures(records.frame)[metric]
        found: Mapping[tuple[str, str], Scores] = kept_table.LateScores(
            lambda: _behind(_told_apart(records, metric, rows, columns), cells)
        )
    else:
        start = time.perf_counter()
        runs = _told_apart(records, metric, rows, columns)
        own = RowScores(runs.frame, runs.measure)
        home = records.read.folder if records.read and key else None
        pieces = kept_columns.load(home, kept_table.code(), own.digest) if home else Pieces()
        made, found = _made(runs, own, columns, pieces)
        measure = runs.measure
        if home and (pieces.found_some or time.perf_counter() - start > kept_table.SECONDS):
            kept_table.save(records, key, made)
            pieces.save(home)
    names, notes = natural(set(made.cells["column"])), [*made.notes, *records.notes]
    shown = (metric, measure, made.rows, tuple(columns), made.cells, made.ranking, names, notes)
    return Table(*shown, records.problems, found)


class _Runs(NamedTuple):
    """The runs that have the metric, told apart: with their row and column."""

    frame: pd.DataFrame
    measure: Metric
    rows: tuple[str, ...]
    notes: list[str]


def _told_apart(records: Records, metric: str, rows: Sequence[str], columns: Sequence[str]) -> _Runs:
    frame, measure, lacking = _with_metric(add_fields(records.frame, [*rows, *columns]), metric)
    frame = frame.assign(column=joined(frame, columns))
    refuse_clashes(frame, columns)
    frame, rows, kept_apart = tell_apart(frame.assign(row=joined(frame, rows)), tuple(rows))
    return _Runs(frame, measure, rows, [*kept_apart, *lacking])


def _made(
    runs: _Runs, own: RowScores, columns: Sequence[str], pieces: Pieces
) -> tuple[Made, Mapping[tuple[str, str], Scores]]:
    frame, measure, rows, notes = runs
    cells = _cells(frame, own, measure, [*rows, *columns], pieces)
    all_scores = _from_goals(own, measure, cells)
    cells = held_against_controls(frame, cells, all_scores, measure.better == "higher", own.draws)
    cells, ranking = ranked(cells, all_scores, rows, measure.better == "higher", pieces, own.draws)
    notes = [*table_notes(frame, cells, ranking, measure), *control_notes(cells, measure), *notes]
    return Made(cells, ranking, notes, tuple(rows)), all_scores


def _behind(runs: _Runs, cells: pd.DataFrame) -> Mapping[tuple[str, str], Scores]:
    """The row values behind the cells of a table that was made before."""
    return _from_goals(RowScores(runs.frame, runs.measure), runs.measure, cells)


def _from_goals(
    all_scores: Mapping[tuple[str, str], Scores], measure: Metric, cells: pd.DataFrame
) -> Mapping[tuple[str, str], Scores]:
    """The scores; of a metric whose best value is a target the distances from it."""
    if measure.better != "target":
        return all_scores
    goals = cells.set_index(["row", "column"])["goal"]
    return {key: distances(found, float(goals[key])) for key, found in all_scores.items()}


def default_metrics(frame: pd.DataFrame) -> list[str]:
    """The metrics that the runs are shown by: of each kind of target that some run has, that which is `shown`.

    Those of predictions come first.
    """
    every = sorted(known().values(), key=lambda metric: metric.reads != "rows")
    shown = [metric.name for metric in every if metric.shown]
    return [name for name in shown if f"{METRIC}{name}" in frame.columns] or shown[:1]


def measures(frame: pd.DataFrame) -> dict[str, Metric]:
    """What the metrics of all runs are, by name."""
    there = {
        name.removeprefix(METRIC): frame[name].notna().to_numpy() for name in frame.columns if name.startswith(METRIC)
    }
    own = frame["own_metrics"].to_numpy()
    return {name: metric_of({"own_metrics": own[has.argmax()]}, name) for name, has in there.items() if has.any()}


def _with_metric(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, Metric, list[str]]:
    """The runs that have the metric, what it is, and a word on those that do not have it."""
    known_here = measures(frame)
    can = ", ".join(other for other, measure in known_here.items() if measure.can_rank)
    if name not in known_here:
        raise InputError(f"no run has the metric {name!r}: choose one of {can}")
    if not known_here[name].can_rank:
        raise InputError(
            f"metric {name!r} cannot rank, for {known_here[name].unranked}: choose one of {can}; each run shows it"
        )
    has = frame[METRIC + name].notna()
    if len({json.dumps(json.loads(told).get(name)) for told in frame.loc[has, "own_metrics"].unique()}) > 1:
        raise InputError(
            f"the runs do not agree on what metric {name!r} is, or its code was edited between them: run them again, "
            "or select some with --where"
        )
    if has.all():
        return frame, known_here[name], []
    lacking = frame[~has]
    words = f"Without {name}: {counted(len(lacking), 'run')}, on {', '.join(sorted(lacking['dataset'].unique()))}."
    return frame[has].reset_index(drop=True), known_here[name], [words]


def distances(system: Scores, goal: float) -> Scores:
    """How far a system's mean is from a goal, to first order: its values less the goal, with the sign of its own."""
    sign = -1.0 if system.value < goal else 1.0
    return replace(system, means=sign * (system.means - goal), influences=sign * system.influences)


def _cells(
    frame: pd.DataFrame, all_scores: RowScores, metric: Metric, fields: Sequence[str], pieces: Pieces
) -> pd.DataFrame:
    wanted = list(dict.fromkeys(["row", "column", *fields, "n_test"]))
    goals, on, names = np.array(_goals(frame, metric)), frame["selection"].tolist(), frame["name"].tolist()
    keys = sorted(all_scores)
    runs = [all_scores.systems[column][row] for row, column in keys]
    odd = {i: told for i, told in enumerate(on) if told not in ("", "validation")}
    chosen = [{odd[i] for i in own if i in odd} if odd else () for own in runs]
    numbers = _numbers(keys, all_scores, metric, pieces)
    low, value = numbers["low"], numbers["value"]
    goal = np.array([np.mean(goals[own]) for own in runs]) if metric.better == "target" else np.full(len(keys), np.nan)
    named: list[Any] = [[names[i] for i in own] for own in runs]
    first = frame[wanted].take([own[0] for own in runs]).reset_index(drop=True)
    return first.assign(
        selected_on=[", ".join(sorted(of_runs)) for of_runs in chosen],
        runs=named,
        goal=goal,
        metric=metric.name,
        value=value,
        low=low if metric.signed else np.maximum(low, 0.0),
        high=numbers["high"],
        badness=metric.badness(value, goal),
        n_seeds=numbers["n_seeds"],
        n_folds=numbers["n_folds"],
        mark="",
    )


def _numbers(
    keys: Sequence[tuple[str, str]], all_scores: RowScores, metric: Metric, pieces: Pieces
) -> dict[str, NDArray[Any]]:
    """Means of the cells with ends of their intervals, and how many seeds and folds there are; column by column."""
    found: dict[str, NDArray[Any]] = {}
    place = {key: i for i, key in enumerate(keys)}
    for column, systems in all_scores.systems.items():
        rows = list(systems)

        def make(column: str = column, rows: Sequence[str] = rows) -> Arrays:
            own = [all_scores[row, column] for row in rows]
            low, high = intervals(own, proportion=metric.proportion)
            n_seeds = [len({seed // max(1, one.n_folds) for seed in one.seeds}) for one in own]
            n_folds = [len(one.seeds) if one.n_folds else 0 for one in own]
            return {
                "value": np.array([one.value for one in own]), "low": low, "high": high,
                "n_seeds": np.array(n_seeds), "n_folds": np.array(n_folds),
            }  # fmt: skip

        of_column = pieces.get(pieces.digest_of(column, rows), ("cells", metric.proportion), make)
        at = [place[row, column] for row in rows]
        for name, values in of_column.items():
            found.setdefault(name, np.empty(len(keys), values.dtype))[at] = values
    return found


def _goals(frame: pd.DataFrame, metric: Metric) -> list[float]:
    """The best value of the metric for each run; nan where more, or less, is better without an end."""
    if isinstance(metric.target, str):
        return frame[metric.target].astype(float).tolist()
    return [float("nan") if metric.target is None else float(metric.target)] * len(frame)
