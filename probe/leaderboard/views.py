"""What the page shows of each metric: the table by it, with intervals, marks and ranks of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.leaderboard.export import title
from probe.leaderboard.pairwise import differences
from probe.leaderboard.records import METRIC, Records
from probe.leaderboard.select import as_dicts, natural
from probe.leaderboard.table import Table, build_table, measures
from probe.metrics.shared.metric import OF_THE_TARGET, Metric

if TYPE_CHECKING:
    import pandas as pd

MAX_PLAIN_CELLS = 40_000
"""Of all metrics without a table together."""
NO_PAIRS: dict[str, Any] = {"rows": [], "half": [], "p": [], "value": {}}
Cells = Mapping[str, Mapping[Any, Any]]
MAX_VIEWS = 6
"""Metrics that the page can be switched to, that of the table among them."""


def tables(table: Table, frame: pd.DataFrame, max_read: int) -> tuple[list[Table], list[str]]:
    """The table itself, and tables of the same rows by other metrics that the runs have; and why some have none.

    Args:
        table: By one metric.
        frame: The runs behind it.
        max_read: Of runs times metrics beyond the first: each reads the predictions of every run once more.
    """
    found, notes = [table], []
    shown, known = set(table.ranking["row"]), {row for row, _ in table.scores}
    for name in _others(table, frame)[: min(MAX_VIEWS - 1, max_read // max(1, len(frame)))]:
        try:
            other = build_table(Records(frame, table.problems, []), name, table.rows, table.columns)
        except InputError as error:  # predictions that are damaged by now, or that older versions did not keep
            notes.append(f"No table by {name}: {one_line(error)}")
            continue
        ranking = other.ranking[~other.ranking["row"].isin(known - shown)]
        if len(ranking):
            found.append(_with(other, ranking, table.labels))
    return found, notes


def _with(table: Table, ranking: pd.DataFrame, labels: Mapping[str, str]) -> Table:
    from dataclasses import replace

    cells = table.cells[table.cells["row"].isin(ranking["row"])]
    return replace(table, ranking=ranking.reset_index(drop=True), cells=cells, labels=labels)


def _others(table: Table, frame: pd.DataFrame) -> list[str]:
    found = {name: one for name, one in measures(frame).items() if one.can_rank and name != table.metric}
    # What other kinds of target are shown by comes first: its rows stand in no other view.
    return sorted(found, key=lambda name: not found[name].shown)


def measure_facts(measure: Metric) -> dict[str, Any]:
    """How a metric is spelled and sorted."""
    return {
        "percent": measure.percent, "significant": measure.unit == OF_THE_TARGET, "better": measure.better,
        "unit": measure.unit,
    }  # fmt: skip


def view(table: Table, places: Mapping[str, int], kept: Sequence[str]) -> dict[str, Any]:
    """One table as plain JSON.

    Args:
        table: By one metric.
        places: Of the rows of the page.
        kept: The rows whose paired differences are told.
    """
    cells = {(cell["row"], cell["column"]): cell for cell in as_dicts(table.cells)}
    names = table.column_names
    return {
        "metric": table.metric,
        "title": title(table),
        **measure_facts(table.measure),
        "columns": list(map(one_line, names)),
        "notes": list(map(one_line, table.notes)),
        "lines": [
            {
                "row": places[line["row"]],
                "rank": None if np.isnan(line["rank"]) else [line["rank"], line["rank_low"], line["rank_high"]],
                "note": line["note"],
                "cells": [_cell(cells.get((line["row"], name))) for name in names],
            }
            for line in table.ranking.to_dict("records")
        ],
        "pairs": [differences(table, name, kept, places) for name in names],
    }


def plain_views(frame: pd.DataFrame, ranked: Sequence[Table], cells: Mapping[str, Cells]) -> list[dict[str, Any]]:
    """Means over seeds by the metrics that have no table, as far as they fit: without intervals, ranks and marks.

    Args:
        frame: The runs.
        ranked: The tables that there are, the first of which says what fields and metrics are called.
        cells: Row of the page -> column -> cell.
    """
    known = {one.metric for one in ranked}
    room = MAX_PLAIN_CELLS // max(1, sum(map(len, cells.values())))
    found: list[dict[str, Any]] = []
    for name, measure in measures(frame).items():
        if name in known or len(found) == room:
            continue
        at = frame.loc[frame[METRIC + name].notna(), ["name", METRIC + name, *_goal(measure)]]
        values = {run: rest for run, *rest in at.itertuples(index=False, name=None)}
        told = [
            {column: shown for column, cell in of_row.items() if (shown := _plain(measure, cell, values))}
            for of_row in cells.values()
        ]
        found.append(_plain_view(ranked[0], measure, told))
    return found


def _goal(measure: Metric) -> list[str]:
    return [measure.target] if isinstance(measure.target, str) else []


def _plain(measure: Metric, cell: Mapping[Any, Any], values: Mapping[str, list[float]]) -> dict[str, Any] | None:
    told = [values[name] for name in cell["runs"] if name in values]
    if not told:
        return None
    value, *goal = (float(f"{np.mean(of_runs):.6g}") for of_runs in zip(*told, strict=True))
    badness = measure.badness(value, *goal)
    return {"value": value, "low": None, "high": None, "badness": badness, "n_seeds": cell["n_seeds"]}


def _plain_view(table: Table, measure: Metric, told: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    why = measure.unranked or "its table would read every run once more: probe leaderboard --metric has it"
    unit = f", {measure.unit}" if measure.unit else ""
    names = natural({column for of_row in told for column in of_row})
    return {
        "metric": measure.name,
        "title": f"{table.named(measure.name)}{unit} (not ranked)",
        **measure_facts(measure),
        "columns": list(map(one_line, names)),
        "notes": [f"Not ranked, for {why}. Means over seeds; each run shows its own interval."],
        "lines": [
            {"row": place, "rank": None, "note": "", "cells": [of_row.get(column) for column in names]}
            for place, of_row in enumerate(told)
            if of_row
        ],
        "pairs": [NO_PAIRS] * len(names),
    }


def _cell(cell: Mapping[Any, Any] | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    found = {key: cell[key] for key in ("value", "low", "high", "badness", "n_seeds")}
    return found | {key: cell[key] for key in ("mark", "selected_on", "not_above") if cell[key]}
