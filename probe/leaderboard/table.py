"""Runs into a table: refusals first, then cells with intervals, marks and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import InputError
from probe.leaderboard.ranks import rank
from probe.leaderboard.records import Problem, Records, read_predictions
from probe.leaderboard.refusals import refuse_clashes, tell_apart
from probe.leaderboard.rows import DEFAULTS, LOWER_IS_BETTER, PROPORTIONS, SIGNED, can_rank, row_values
from probe.leaderboard.select import add_fields, joined, natural
from probe.leaderboard.statistics import Scores, intervals, scores

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
    frame, rows = tell_apart(frame.assign(row=joined(frame, rows)), tuple(rows))
    all_scores = _all_scores(frame, metric)
    cells = _cells(frame, all_scores, metric, [*rows, *columns])
    cells, ranking = _ranked(cells, all_scores, rows, metric not in LOWER_IS_BETTER)
    notes = [*_notes(frame, cells, ranking, metric), *lacking, *records.notes]
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


def _ranked(
    cells: pd.DataFrame, all_scores: dict[tuple[str, str], Scores], rows: Sequence[str], higher: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Marks the cells and ranks the rows that have the same columns."""
    columns = natural(cells["column"].unique())
    present = {str(row): tuple(group["column"]) for row, group in cells.groupby("row", sort=True)}
    complete = [row for row, has in present.items() if len(has) == len(columns)]
    members = {column: [row for row, has in present.items() if column in has] for column in columns}
    whole = rank([[all_scores[row, c] for row in members[c]] for c in columns], higher_is_better=higher)
    marks: dict[tuple[str, str], str] = {}
    for column, ranking in zip(columns, whole, strict=True):
        values = np.array([all_scores[row, column].value for row in members[column]]) * (1 if higher else -1)
        if len(values) > 1:
            found = np.where(values == values.max(), "best", np.where(ranking.maybe_best, "tied", ""))
            marks |= {(row, column): str(mark) for row, mark in zip(members[column], found, strict=True)}
    cells["mark"] = [marks.get(key, "") for key in zip(cells["row"], cells["column"], strict=True)]
    ranks: dict[str, tuple[float, float, float]] = {}
    for has, block in _blocks(present, complete, columns).items():
        same = len(complete) == len(present)
        of_block = (
            whole if same else rank([[all_scores[row, c] for row in block] for c in has], higher_is_better=higher)
        )
        ranks |= _average_ranks(block, has, of_block, all_scores, higher)
    return cells, _ranking_frame(cells, present, ranks, columns, rows, higher, bool(complete))


def _blocks(
    present: dict[str, tuple[str, ...]], complete: list[str], columns: Sequence[str]
) -> dict[tuple[str, ...], list[str]]:
    """Rows that are ranked together: those without a missing cell, or, if all miss some, those with the same cells."""
    blocks: dict[tuple[str, ...], list[str]] = {tuple(columns): complete} if complete else {}
    for row, has in present.items():
        if not complete:
            blocks.setdefault(has, []).append(row)
    return {has: block for has, block in blocks.items() if len(block) > 1}


def _average_ranks(
    members: list[str],
    columns: Sequence[str],
    found: Sequence[Any],
    all_scores: dict[tuple[str, str], Scores],
    higher: bool,
) -> dict[str, tuple[float, float, float]]:
    values = np.array([[all_scores[row, column].value for row in members] for column in columns])
    values = -values if higher else values
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    average = (below + (equal + 1) / 2).mean(axis=0)
    low, high = np.mean([r.low for r in found], axis=0), np.mean([r.high for r in found], axis=0)
    return {row: (average[i], low[i], high[i]) for i, row in enumerate(members)}


def _ranking_frame(
    cells: pd.DataFrame,
    present: dict[str, tuple[str, ...]],
    ranks: dict[str, tuple[float, float, float]],
    columns: Sequence[str],
    rows: Sequence[str],
    higher: bool,
    some_complete: bool,
) -> pd.DataFrame:
    import pandas as pd

    fields = cells.drop_duplicates("row").set_index("row", drop=False)[["row", *rows]].to_dict("index")
    means = cells.groupby("row")["value"].mean().to_dict()
    lines = []
    for row, has in present.items():
        missing = [column for column in columns if column not in has]
        word = f"missing: {', '.join(missing)}" if missing else ""
        if missing and row not in ranks:
            word += "; not ranked"
        average, low, high = ranks.get(row, (np.nan, np.nan, np.nan))
        value = means[row]
        order = (
            -len(has) if some_complete else 0,
            [columns.index(c) for c in has],
            np.inf if np.isnan(average) else average,
        )
        line = {**fields[row], "rank": average, "rank_low": low, "rank_high": high, "note": word}
        lines.append((line, (*order, -value if higher else value, row)))
    lines.sort(key=lambda line: line[1])
    return pd.DataFrame([line for line, _ in lines])


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
    if frame["skipped"].sum():
        notes.append(
            f"{int(frame['skipped'].sum())} unreadable rows were skipped in {(frame['skipped'] > 0).sum()} runs."
        )
    return notes
