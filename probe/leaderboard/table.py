"""Runs into a table: refusals first, then cells with intervals, marks and ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.words import counted
from probe.leaderboard.controls import control_notes, held_against_controls
from probe.leaderboard.notes import table_notes
from probe.leaderboard.records import METRIC, Problem, Records, has_bits, metric_of, row_values
from probe.leaderboard.refusals import refuse_clashes, tell_apart
from probe.leaderboard.select import add_fields, joined, natural
from probe.leaderboard.standings import ranked
from probe.leaderboard.statistics import Scores, intervals, scores
from probe.metrics.shared.metric import Metric, known
from probe.metrics.shared.scores import restored
from probe.results.reader import read_predictions

if TYPE_CHECKING:
    import pandas as pd

ROWS, COLUMNS = ("backbone", "head"), ("dataset",)
RUN_FIELDS = (
    "number", "dataset.test_rows", "n_scored", "folder", "correct", "skipped", "dataset.target", "n_folds", "n_learnt",
)  # fmt: skip


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
    scores: dict[tuple[str, str], Scores]
    labels: Mapping[str, str] = dataclass_field(default_factory=dict)

    def named(self, name: str) -> str:
        """A field or the metric as people read it."""
        return self.labels.get(name, name)

    def column(self, name: str) -> list[Scores]:
        """All systems of a column."""
        return [scores for (_, column), scores in self.scores.items() if column == name]

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
    frame, measure, lacking = _with_metric(add_fields(records.frame, [*rows, *columns]), metric)
    frame = frame.assign(column=joined(frame, columns))
    refuse_clashes(frame, columns)
    frame, rows, kept_apart = tell_apart(frame.assign(row=joined(frame, rows)), tuple(rows))
    all_scores = _all_scores(frame, measure)
    cells = _cells(frame, all_scores, measure, [*rows, *columns])
    if measure.better == "target":
        goals = cells.set_index(["row", "column"])["goal"]
        all_scores = {key: distances(found, float(goals[key])) for key, found in all_scores.items()}
    cells = held_against_controls(frame, cells, all_scores, measure.better == "higher")
    cells, ranking = ranked(cells, all_scores, rows, measure.better == "higher")
    notes = [
        *table_notes(frame, cells, ranking, measure),
        *control_notes(cells, measure),
        *kept_apart,
        *lacking,
        *records.notes,
    ]
    names = natural(set(cells["column"]))
    return Table(
        metric, measure, tuple(rows), tuple(columns), cells, ranking, names, notes, records.problems, all_scores
    )


def default_metrics(frame: pd.DataFrame) -> list[str]:
    """The metrics that the runs are shown by: of each kind of target that some run has, that which is `shown`."""
    shown = [metric.name for metric in known().values() if metric.shown]
    return [name for name in shown if f"{METRIC}{name}" in frame.columns] or shown[:1]


def _with_metric(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, Metric, list[str]]:
    """The runs that have the metric, what it is, and a word on those that do not have it."""
    there = {column.removeprefix(METRIC): column for column in frame.columns if column.startswith(METRIC)}
    found = {other: frame[frame[column].notna()] for other, column in there.items()}
    measures = {other: metric_of({"own_metrics": runs["own_metrics"].iloc[0]}, other) for other, runs in found.items()}
    can = ", ".join(other for other, measure in measures.items() if measure.can_rank)
    if name not in measures:
        raise InputError(f"no run has the metric {name!r}: choose one of {can}")
    if not measures[name].can_rank:
        raise InputError(
            f"metric {name!r} cannot rank, for {measures[name].unranked}: choose one of {can}; each run shows it"
        )
    if len({json.dumps(json.loads(told).get(name)) for told in found[name]["own_metrics"].unique()}) > 1:
        raise InputError(
            f"the runs do not agree on what metric {name!r} is, or its code was edited between them: run them again, "
            "or select some with --where"
        )
    lacking = frame[frame[there[name]].isna()]
    words = [f"Without {name}: {counted(len(lacking), 'run')}, on {', '.join(sorted(lacking['dataset'].unique()))}."]
    return found[name].reset_index(drop=True), measures[name], words if len(lacking) else []


def distances(system: Scores, goal: float) -> Scores:
    """How far a system's mean is from a goal, to first order: its values less the goal, with the sign of its own."""
    sign = -1.0 if system.value < goal else 1.0
    return replace(system, means=sign * (system.means - goal), influences=sign * system.influences)


def _all_scores(frame: pd.DataFrame, metric: Metric) -> dict[tuple[str, str], Scores]:
    """Row values of every cell, by (row, column); within a column all on common places for the test rows."""
    number = frame["seed"] * frame["n_folds"].clip(lower=1) + frame["fold"]
    frame = frame.assign(number=number, n_learnt=frame["n_train"] + frame["n_validation"])
    runs = frame[[*RUN_FIELDS, f"{METRIC}{metric.name}"]].to_numpy(dtype=object)
    cells: dict[str, dict[str, list[int]]] = {}
    for i, (column, row) in enumerate(zip(frame["column"].tolist(), frame["row"].tolist(), strict=True)):
        cells.setdefault(column, {}).setdefault(row, []).append(i)
    found: dict[tuple[str, str], Scores] = {}
    for column, systems in sorted(cells.items()):
        members = [i for systems_runs in systems.values() for i in systems_runs]
        values = {i: _values(runs[i], metric) for i in members}
        looked_at = {i: ~np.isnan(v) for i, v in values.items()}
        places, n_rows = _places(runs, members, looked_at)
        for row, own in sorted(systems.items()):
            where = None if places is None else [places[i] for i in own]
            told, learnt = [values[i][looked_at[i]] for i in own], np.mean([runs[i][8] for i in own])
            found[row, column] = scores(told, where, [runs[i][0] for i in own], n_rows, runs[own[0]][7], learnt)
    return found


def _places(
    runs: Any, members: Sequence[int], looked_at: dict[int, NDArray[np.bool_]]
) -> tuple[dict[int, Any] | None, int]:
    """Places of each run's test rows among all of its column, None where all test the same; and how many there are.

    Rows that the metric does not look at are none of them.
    """
    same = len({(runs[i][1], runs[i][2]) for i in members}) == 1 and not any(runs[i][5] for i in members)
    if same and all(mask.all() for mask in looked_at.values()):
        return None, int(runs[members[0]][2])
    tested = {i: read_predictions(runs[i][3])["row"][looked_at[i]] for i in members}
    every = np.unique(np.concatenate(list(tested.values())))
    return {i: np.searchsorted(every, rows) for i, rows in tested.items()}, len(every)


def _values(run: Any, metric: Metric) -> Any:
    """(N,) values of the test rows of a run, their mean exactly the recorded metric."""
    _, _, n_scored, folder, correct, _, target, _, _, recorded = run
    if has_bits(metric):
        return np.unpackbits(np.frombuffer(correct, np.uint8), count=n_scored).astype(np.float64)
    try:
        predictions = read_predictions(folder)
        values = row_values(metric, predictions, restored(predictions, target))
    except InputError as error:
        raise InputError(f"{folder}: {error}, or make the run again with force=true") from None
    return values + (recorded - np.nanmean(values))


def _cells(
    frame: pd.DataFrame, all_scores: dict[tuple[str, str], Scores], metric: Metric, fields: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    lines: dict[tuple[str, str], dict[str, Any]] = {}
    wanted = list(dict.fromkeys(["row", "column", "selection", "name", *fields, "n_test"]))
    goals = _goals(frame, metric)
    for goal, row, column, on, name, *values in zip(goals, *(frame[field].tolist() for field in wanted), strict=True):
        if (row, column) not in lines:
            first = dict(zip(wanted[4:], values, strict=True))
            lines[row, column] = {"row": row, "column": column, **first, "selected_on": set(), "runs": [], "goal": []}
        lines[row, column]["runs"].append(name)
        lines[row, column]["goal"].append(goal)
        lines[row, column]["selected_on"] |= {on} - {"", "validation"}
    ordered = [lines[key] for key in sorted(lines)]
    found = [all_scores[line["row"], line["column"]] for line in ordered]
    low, high = _bounds(ordered, all_scores, metric)
    low = low if metric.signed else np.maximum(low, 0.0)
    value, goal = np.array([system.value for system in found]), np.array([np.mean(line["goal"]) for line in ordered])
    return pd.DataFrame(ordered).assign(
        selected_on=[", ".join(sorted(line["selected_on"])) for line in ordered],
        metric=metric.name,
        value=value,
        low=low,
        high=high,
        goal=goal,
        badness=metric.badness(value, goal),
        n_seeds=[len({seed // max(1, system.n_folds) for seed in system.seeds}) for system in found],
        n_folds=[len(system.seeds) if system.n_folds else 0 for system in found],
        mark="",
    )


def _bounds(
    lines: Sequence[dict[str, Any]], all_scores: dict[tuple[str, str], Scores], metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the intervals of all cells, each column by itself."""
    bounds = np.empty((2, len(lines)))
    for column in {line["column"] for line in lines}:
        places = [i for i, line in enumerate(lines) if line["column"] == column]
        systems = [all_scores[lines[i]["row"], column] for i in places]
        bounds[:, places] = intervals(systems, proportion=metric.proportion)
    return bounds[0], bounds[1]


def _goals(frame: pd.DataFrame, metric: Metric) -> list[float]:
    """The best value of the metric for each run; nan where more, or less, is better without an end."""
    if isinstance(metric.target, str):
        return frame[metric.target].astype(float).tolist()
    return [float("nan") if metric.target is None else float(metric.target)] * len(frame)
