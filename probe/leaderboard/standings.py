"""Which cells are best of their column, and how rows rank over all columns that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.leaderboard.ranks import rank
from probe.leaderboard.select import natural
from probe.leaderboard.statistics import Scores

if TYPE_CHECKING:
    import pandas as pd


def ranked(
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
    return cells, _ranking_frame(cells, present, ranks, columns, rows, bool(complete))


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
    some_complete: bool,
) -> pd.DataFrame:
    import pandas as pd

    fields = cells.drop_duplicates("row").set_index("row", drop=False)[["row", *rows]].to_dict("index")
    badness = cells.groupby("row")["badness"].mean().to_dict()
    lines = []
    for row, has in present.items():
        missing = [column for column in columns if column not in has]
        word = f"missing: {', '.join(missing)}" if missing else ""
        if missing and row not in ranks:
            word += "; not ranked"
        average, low, high = ranks.get(row, (np.nan, np.nan, np.nan))
        order = (
            -len(has) if some_complete else 0,
            [columns.index(c) for c in has],
            np.inf if np.isnan(average) else average,
        )
        line = {**fields[row], "rank": average, "rank_low": low, "rank_high": high, "note": word}
        lines.append((line, (*order, badness[row], row)))
    lines.sort(key=lambda line: line[1])
    return pd.DataFrame([line for line, _ in lines])
