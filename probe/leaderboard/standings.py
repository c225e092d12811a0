"""Which cells are best of their column, and how rows rank over all columns that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from probe.leaderboard.kept_columns import Pieces
from probe.leaderboard.leads import Draws
from probe.leaderboard.ranks import Ranking, rank
from probe.leaderboard.select import natural
from probe.leaderboard.statistics import Scores

if TYPE_CHECKING:
    import pandas as pd

SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


class Systems(Sequence[Scores]):
    """The scores of some rows in one column, looked up when they are asked for."""

    def __init__(self, all_scores: Mapping[tuple[str, str], Scores], column: str, rows: Sequence[str]):
        self._all, self._column, self._rows = all_scores, column, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        return self._all[self._rows[place], self._column]


def ranked(
    cells: pd.DataFrame,
    all_scores: Mapping[tuple[str, str], Scores],
    rows: Sequence[str],
    higher: bool,
    pieces: Pieces,
    draws_of: Callable[[str, Sequence[str]], Draws],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Marks the cells and ranks the rows that have the same columns.

    Args:
        cells: Of the table.
        all_scores: What is behind them.
        rows: Fields that name a row.
        higher: Whether more of the scores is better.
        pieces: What is kept of columns.
        draws_of: Gives what names the random numbers of some rows of a column.
    """
    columns = natural(cells["column"].unique())
    keys = list(zip(cells["row"].tolist(), cells["column"].tolist(), strict=True))
    badness = dict(zip(keys, cells["badness"].tolist(), strict=True))
    if not cells["goal"].isna().all():  # the scores are distances, which cells tell to the last digit but one
        badness = {key: all_scores[key].value for key in keys}
    there: dict[str, list[str]] = {}
    for row, column in sorted(keys):
        there.setdefault(row, []).append(column)
    present = {row: tuple(has) for row, has in there.items()}

    def found(members: Mapping[str, Sequence[str]]) -> list[Ranking]:
        systems = [Systems(all_scores, column, own) for column, own in members.items()]
        digests = [pieces.digest_of(column, own) for column, own in members.items()]
        draws = [draws_of(column, own) for column, own in members.items()]
        return rank(systems, higher_is_better=higher, pieces=pieces, digests=digests, draws=draws)

    complete = [row for row, has in present.items() if len(has) == len(columns)]
    members: dict[str, list[str]] = {column: [] for column in columns}
    for row, has in present.items():
        for column in has:
            members[column].append(row)
    whole = found(members)
    marks: dict[tuple[str, str], str] = {}
    for column, ranking in zip(columns, whole, strict=True):
        values = np.array([badness[row, column] for row in members[column]])
        if len(values) > 1:
            told = np.where(values == values.min(), "best", np.where(ranking.maybe_best, "tied", ""))
            marks |= {(row, column): str(mark) for row, mark in zip(members[column], told, strict=True)}
    cells["mark"] = [marks.get(key, "") for key in keys]
    ranks: dict[str, tuple[float, float, float]] = {}
    for has, block in _blocks(present, complete, columns).items():
        of_block = whole if len(complete) == len(present) else found(dict.fromkeys(has, block))
        ranks |= _average_ranks(block, has, of_block, badness)
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
    members: list[str], columns: Sequence[str], found: Sequence[Ranking], badness: Mapping[tuple[str, str], float]
) -> dict[str, tuple[float, float, float]]:
    places = []
    for column in columns:
        values = np.array([badness[row, column] for row in members])
        below, upto = (np.searchsorted(np.sort(values), values, side) for side in SIDES)
        places.append(below + (upto - below + 1) / 2)
    average = np.mean(places, axis=0)
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
