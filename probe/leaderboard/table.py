"""Runs into a table: refusals first, then cells with intervals, marks and ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.leaderboard.records import Problem, Records, read_predictions
from probe.leaderboard.refusals import refuse_clashes, tell_apart
from probe.leaderboard.select import add_fields, joined, natural
from probe.leaderboard.standings import ranked
from probe.leaderboard.statistics import Scores, intervals, scores
from probe.metrics.per_row import DEFAULTS, LOWER_IS_BETTER, PROPORTIONS, SIGNED, can_rank, row_values

if TYPE_CHECKING:
    import pandas as pd

ROWS, COLUMNS = ("backbone", "head"), ("dataset",)
RUN_FIELDS = ("seed", "dataset.test_rows", "n_scored", "folder", "correct", "skipped")
METHOD = (
    "Cells are means over seeds with 95% intervals for new test rows and new seeds: variances of both add, since all "
    "seeds share the test rows; Student's t for the seeds' share{wilson}. "
    "* best of its column; ~ not distinguishable from the best (paired bootstrap of the test rows, 95% for the column)."
)
RANKS = (
    "Rank is the average over columns; its interval holds for all rows at once (95%, paired bootstrap over the same "
    "test rows, all pairs in all columns)."
)


@dataclass(frozen=True)
class Table:
    """One metric of many runs.

    Attributes:
        metric: Its name, as in `result.json`.
        rows: Fields that name a row.
        columns: Fields that name a column.
        cells: One line per row and column that has runs: the fields; `row` and `column` (both as one text); `value`,
            `low`, `high`; `n_seeds`, `n_test`; `mark` (`best`, `tied` or empty); `runs` (their names).
        ranking: One line per row, best first: the fields of the row; `row`; `rank`, `rank_low`, `rank_high` (nan where
            it has none); `note`.
        column_names: In the order in which they are shown.
        notes: What has to be said under the table.
        problems: Folders that are not counted.
        scores: Row values behind each cell, by (row, column).
    """

    metric: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: pd.DataFrame
    ranking: pd.DataFrame
    column_names: list[str]
    notes: list[str]
    problems: list[Problem]
    scores: dict[tuple[str, str], Scores]

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        return self.metric not in LOWER_IS_BETTER


def build_table(
    records: Records,
    metric: str | None = None,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
) -> Table:
    """Makes the table of one metric, by default `top1`, or `mAP` where all runs are on rows with several labels.

    Raises:
        InputError: Results that cannot be compared would share a column, or fields or the metric do not exist.
    """
    metric = metric or default_metrics(records.frame)[0]
    frame, lacking = _with_metric(add_fields(records.frame, [*rows, *columns]), metric)
    frame = frame.assign(column=joined(frame, columns))
    refuse_clashes(frame, columns)
    frame, rows, kept_apart = tell_apart(frame.assign(row=joined(frame, rows)), tuple(rows))
    all_scores = _all_scores(frame, metric)
    cells = _cells(frame, all_scores, metric, [*rows, *columns])
    cells, ranking = ranked(cells, all_scores, rows, metric not in LOWER_IS_BETTER)
    notes = [*_notes(frame, cells, ranking, metric), *kept_apart, *lacking, *records.notes]
    return Table(
        metric,
        tuple(rows),
        tuple(columns),
        cells,
        ranking,
        natural(set(cells["column"])),
        notes,
        records.problems,
        all_scores,
    )


def default_metrics(frame: pd.DataFrame) -> list[str]:
    """The metrics that the runs are shown by: `top1`, `mAP`, or both where some have the one and some the other."""
    return [metric for metric in DEFAULTS if f"metric.{metric}" in frame.columns] or [DEFAULTS[0]]


def _with_metric(frame: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The runs that have the metric, and a word on those that do not."""
    name = f"metric.{metric}"
    if name not in frame.columns or not can_rank(metric):
        there = [column[7:] for column in frame.columns if column.startswith("metric.") and can_rank(column[7:])]
        why = f"no run has the metric {metric!r}"
        if name in frame.columns:
            why = f"metric {metric!r} has no value per test row to rank by"
        raise InputError(f"{why}: choose one of {', '.join(there)}")
    lacking = frame[frame[name].isna()]
    words = [f"{len(lacking)} runs have no {metric}, on {', '.join(sorted(lacking['dataset'].unique()))}."]
    return frame[frame[name].notna()].reset_index(drop=True), words if len(lacking) else []


def _all_scores(frame: pd.DataFrame, metric: str) -> dict[tuple[str, str], Scores]:
    """Row values of every cell, by (row, column); within a column all on common places for the test rows."""
    runs = frame[[*RUN_FIELDS, f"metric.{metric}"]].to_numpy(dtype=object)
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
            found[row, column] = scores(
                [values[i][looked_at[i]] for i in own], where, [runs[i][0] for i in own], n_rows
            )
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


def _values(run: Any, metric: str) -> Any:
    """(N,) values of the test rows of a run, their mean exactly the recorded metric."""
    _, _, n_scored, folder, correct, _, recorded = run
    if metric == "top1":
        return np.unpackbits(np.frombuffer(correct, np.uint8), count=n_scored).astype(np.float64)
    try:
        values = row_values(metric, read_predictions(folder))
    except InputError as error:
        raise InputError(f"{folder}: {error}, or make the run again with force=true") from None
    return values + (recorded - np.nanmean(values))


def _cells(
    frame: pd.DataFrame, all_scores: dict[tuple[str, str], Scores], metric: str, fields: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    lines: dict[tuple[str, str], dict[str, Any]] = {}
    wanted = list(dict.fromkeys(["row", "column", "selection", "name", *fields, "n_test"]))
    for row, column, on, name, *values in zip(*(frame[field].tolist() for field in wanted), strict=True):
        if (row, column) not in lines:
            first = dict(zip(wanted[4:], values, strict=True))
            lines[row, column] = {"row": row, "column": column, **first, "selected_on": set(), "runs": []}
        lines[row, column]["runs"].append(name)
        lines[row, column]["selected_on"] |= {on} - {"", "validation"}
    ordered = [lines[key] for key in sorted(lines)]
    found = [all_scores[key] for key in sorted(lines)]
    low, high = intervals(found, proportion=metric in PROPORTIONS)
    low = np.maximum(low, 0.0) if metric in LOWER_IS_BETTER - SIGNED else low
    return pd.DataFrame(ordered).assign(
        selected_on=[", ".join(sorted(line["selected_on"])) for line in ordered],
        metric=metric,
        value=[system.value for system in found],
        low=low,
        high=high,
        n_seeds=[len(system.seeds) for system in found],
        mark="",
    )


def _notes(frame: pd.DataFrame, cells: pd.DataFrame, ranking: pd.DataFrame, metric: str) -> list[str]:
    notes = [METHOD.format(wilson=", Wilson's form" if metric in PROPORTIONS else "")]
    if ranking["rank"].notna().any():
        notes.append(RANKS)
    if (ranking["note"] != "").any():
        partial = ranking["note"].str.endswith("not ranked").any()
        notes.append(
            "Rows with missing cells are not ranked." if partial
            else "Ranks compare only rows that have the same columns."
        )  # fmt: skip
    if (cells["n_seeds"] == 1).any():
        notes.append("Cells from one seed: their intervals know nothing of how seeds vary.")
    if metric.endswith("coverage"):
        levels = " or ".join(f"{100 * level:g} %" for level in sorted(set(frame["conformal_level"])))
        notes.append(f"Coverage is meant to be {levels}: more is no better where sets are larger for it.")
    for on, group in cells[cells["selected_on"] != ""].groupby("selected_on"):
        warning = ", and so too good" if "test" in str(on) else ""
        notes.append(f"† Selected on {on}, not on validation{warning}: {', '.join(sorted(group['row'].unique()))}.")
    for dataset, n in frame[frame["leaked"] > 0].groupby("dataset")["leaked"].max().items():
        notes.append(f"Leakage: {int(n)} test rows of {dataset} are copies of training rows.")
    for dataset, n in frame[frame["divided"] > 0].groupby("dataset")["divided"].max().items():
        notes.append(f"Groups: {int(n)} groups of {dataset} stand in more than one of training, validation and test.")
    left_out = {phrase for phrases in set(frame["left_out"]) for phrase in json.loads(phrases)}
    notes += [f"Not among the rows of {phrase}." for phrase in sorted(left_out)]
    if frame["skipped"].sum():
        notes.append(
            f"{int(frame['skipped'].sum())} unreadable rows were skipped in {(frame['skipped'] > 0).sum()} runs."
        )
    return notes
