"""Runs into a table: refusals first, then cells with intervals, marks and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.errors import InputError
from probe.leaderboard.records import Problem, Records, read_predictions
from probe.leaderboard.rows import LOWER_IS_BETTER, PROPORTIONS, ROW_VALUES, row_values
from probe.leaderboard.select import add_fields, differing, text
from probe.leaderboard.statistics import Scores, intervals, rank, scores

if TYPE_CHECKING:
    import pandas as pd

ROWS, COLUMNS = ("backbone", "head"), ("dataset",)
CLASHES = {
    "dataset.fingerprint": "dataset fingerprints",
    "protocol.parameters": "protocols",
    "dataset.classes": "label sets",
}
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
    metric: str = "top1",
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
) -> Table:
    """Makes the table of one metric.

    Raises:
        InputError: Results that cannot be compared would share a column, or fields or the metric do not exist.
    """
    frame = _with_metric(add_fields(records.frame, [*rows, *columns]), metric)
    frame = frame.assign(column=_joined(frame, columns))
    _refuse_clashes(frame, columns)
    frame, rows = _tell_apart(frame.assign(row=_joined(frame, rows)), tuple(rows))
    places = {str(name): _scores_of_column(group, metric) for name, group in frame.groupby("column", sort=True)}
    all_scores = {(row, column): found for column, systems in places.items() for row, found in systems.items()}
    cells = _cells(frame, all_scores, metric, [*rows, *columns])
    cells, ranking = _ranked(cells, all_scores, rows, metric not in LOWER_IS_BETTER)
    notes = [*_notes(frame, cells, ranking, metric), *records.notes]
    return Table(metric, tuple(rows), tuple(columns), cells, ranking, list(places), notes, records.problems, all_scores)


def _with_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    name = f"metric.{metric}"
    if name not in frame.columns or metric not in ROW_VALUES:
        there = [column[7:] for column in frame.columns if column.startswith("metric.") and column[7:] in ROW_VALUES]
        raise InputError(f"no run has the metric {metric!r}: choose one of {', '.join(there)}")
    return frame[frame[name].notna()].reset_index(drop=True)


def _joined(frame: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    return [" ".join(map(text, values)) for values in frame[list(fields)].itertuples(index=False)]


def _refuse_clashes(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Reports every column whose runs saw different data, protocols, label sets or test rows."""
    wrong = []
    for column, group in frame.groupby("column", sort=True):
        for field, what in CLASHES.items():
            if group[field].nunique() > 1:
                wrong.append(_clash(str(column), group, field, what, columns))
        for seed, same_seed in group.groupby("seed"):
            if same_seed["dataset.test_rows"].nunique() > 1:
                wrong.append(
                    _clash(f"{column} (seed {seed})", same_seed, "dataset.test_rows", "sets of test rows", columns)
                )
                break
    if wrong:
        raise InputError("; ".join(wrong))


def _clash(column: str, group: pd.DataFrame, field: str, what: str, columns: Sequence[str]) -> str:
    kinds = [(text(value)[:60], list(runs["name"])) for value, runs in group.groupby(field)]
    listed = ", ".join(
        f"{kind} in {names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}" for kind, names in kinds[:5]
    )
    by, example = field, kinds[0][0]
    if field == "protocol.parameters":
        names = group["protocol"].unique()
        if len(names) > 1:
            by, example = "protocol", names[0]
        else:
            found = differing(group, ["protocol"])
            by = found[0] if found else field
            example = text(add_fields(group, [by])[by].iloc[0])
    return (
        f"column {column} would mix {group[field].nunique()} {what} ({listed}), results share a column only where "
        f"these are equal: select with --where '{by}={example}' or give each a column with "
        f"--columns {','.join([*columns, by])}"
    )


def _tell_apart(frame: pd.DataFrame, rows: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Adds fields to the rows until the runs of a cell differ in nothing but the seed.

    Runs of one name with different parameters are different rows; `head.temperature`, say, becomes a field of the rows.
    """
    cell = ["row", "column"]
    extra: list[str] = []
    for _, group in frame.groupby(cell):
        if group["settings"].nunique() > 1:
            first = group.drop_duplicates("settings")
            extra += differing(first, ["head", "backbone"]) or differing(first) or ["backbone.identity"]
        elif group["seed"].duplicated().any():
            extra += differing(group[group["seed"].duplicated(keep=False)])
    if extra:
        rows = (*rows, *dict.fromkeys(name for name in extra if name not in rows))
        frame = add_fields(frame, rows)
        frame = frame.assign(row=_joined(frame, rows))
    twice = frame[frame.duplicated([*cell, "seed"], keep=False)].sort_values([*cell, "seed"])
    if len(twice):
        a, b = twice.iloc[0], twice.iloc[1]
        raise InputError(
            f"{a['name']} and {b['name']} are both {a['row']} on {a['column']} with seed {a['seed']}, a cell takes one "
            f"run per seed: select with --where name!={b['name']} or tell them apart with --rows"
        )
    return frame, rows


def _scores_of_column(group: pd.DataFrame, metric: str) -> dict[str, Scores]:
    """Row values of all systems in one column, on common places for the test rows."""
    aligned = group["dataset.test_rows"].nunique() == 1 and group["n_scored"].nunique() == 1
    places: dict[str, Any] = {}
    all_rows = None
    if not aligned:
        tested = [read_predictions(folder)["row"] for folder in group["folder"]]
        all_rows = np.unique(np.concatenate(tested))
        places = dict(zip(group["folder"], (np.searchsorted(all_rows, rows) for rows in tested), strict=True))
    n_rows = int(group["n_scored"].iloc[0]) if all_rows is None else len(all_rows)
    return {
        str(row): scores(
            [_values(run, metric) for run in runs.to_dict("records")],
            None if aligned else [places[folder] for folder in runs["folder"]],
            list(runs["seed"]),
            n_rows,
        )
        for row, runs in group.groupby("row", sort=True)
    }


def _values(run: Mapping[Any, Any], metric: str) -> Any:
    """(N,) values of the test rows of a run, their mean exactly the recorded metric."""
    if metric == "top1":
        return np.unpackbits(np.frombuffer(run["correct"], np.uint8), count=run["n_scored"]).astype(np.float64)
    values = row_values(metric, read_predictions(run["folder"]))
    return values + (run[f"metric.{metric}"] - values.mean())


def _cells(
    frame: pd.DataFrame, all_scores: dict[tuple[str, str], Scores], metric: str, fields: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    groups = frame.groupby(["row", "column"], sort=True)
    first = groups[[*fields, "n_test"]].first()
    found = [all_scores[key] for key in first.index]
    low, high = intervals(found, proportion=metric in PROPORTIONS)
    if metric == "ece":
        low = np.maximum(low, 0.0)
    names = groups["name"].agg(list)
    on = groups["selection"].agg(lambda kinds: ", ".join(sorted({kind for kind in kinds if kind} - {"validation"})))
    return pd.DataFrame(
        first.assign(
            metric=metric,
            value=[system.value for system in found],
            low=low,
            high=high,
            n_seeds=[len(system.seeds) for system in found],
            mark="",
            selected_on=on,
            runs=names,
        )
    ).reset_index()


def _ranked(
    cells: pd.DataFrame, all_scores: dict[tuple[str, str], Scores], rows: Sequence[str], higher: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Marks the cells and ranks the rows that have the same columns."""
    columns = sorted(cells["column"].unique())
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

    fields = cells.groupby("row")[list(rows)].first()
    means = cells.groupby("row")["value"].mean()
    lines = []
    for row, has in present.items():
        missing = [column for column in columns if column not in has]
        word = f"missing: {', '.join(missing)}" if missing else ""
        if missing and row not in ranks:
            word += "; not ranked"
        average, low, high = ranks.get(row, (np.nan, np.nan, np.nan))
        value = float(means[row])
        order = (
            -len(has) if some_complete else 0,
            [columns.index(c) for c in has],
            np.inf if np.isnan(average) else average,
        )
        line = {**fields.loc[row], "row": row, "rank": average, "rank_low": low, "rank_high": high, "note": word}
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
    selected = cells[cells["selected_on"] != ""]
    for on, group in selected.groupby("selected_on"):
        notes.append(
            f"Selected on {on}, not on validation, and so too good: {', '.join(sorted(group['row'].unique()))}."
        )
    if frame["skipped"].sum():
        notes.append(
            f"{int(frame['skipped'].sum())} unreadable rows were skipped in {(frame['skipped'] > 0).sum()} runs."
        )
    return notes
