"""What the page shows of each metric: the table by it, with intervals, marks and ranks of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.leaderboard.export import title
from probe.leaderboard.pairwise import differences
from probe.leaderboard.records import METRIC, Records, metric_of
from probe.leaderboard.table import Table, build_table
from probe.metrics.shared.metric import OF_THE_TARGET, Metric

if TYPE_CHECKING:
    import pandas as pd

MAX_VIEWS = 6
"""Metrics that the page can be switched to, that of the table among them."""
MAX_WORK = 4_000
"""Runs times metrics beyond the first: each reads the predictions of every run once more."""


def tables(table: Table, frame: pd.DataFrame) -> tuple[list[Table], list[str]]:
    """The table itself, and tables of the same rows by other metrics that the runs have; and why some have none."""
    found, notes = [table], []
    shown, known = set(table.ranking["row"]), {row for row, _ in table.scores}
    for name in _others(table, frame)[: min(MAX_VIEWS - 1, MAX_WORK // max(1, len(frame)))]:
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
    names = [column.removeprefix(METRIC) for column in frame.columns if column.startswith(METRIC)]
    there = {name: frame[frame[METRIC + name].notna()] for name in names if name != table.metric}
    measures = {name: _measure(runs, name) for name, runs in there.items() if len(runs)}
    # What other kinds of target are shown by comes first: its rows stand in no other view.
    return sorted((name for name, one in measures.items() if one.can_rank), key=lambda name: not measures[name].shown)


def _measure(runs: pd.DataFrame, name: str) -> Metric:
    return metric_of({"own_metrics": runs["own_metrics"].iloc[0]}, name)


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
    cells = {(cell["row"], cell["column"]): cell for cell in table.cells.to_dict("records")}
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


def _cell(cell: Mapping[Any, Any] | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    found = {key: cell[key] for key in ("value", "low", "high", "badness", "n_seeds")}
    return found | {key: cell[key] for key in ("mark", "selected_on", "not_above") if cell[key]}
