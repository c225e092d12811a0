"""The table as people read it and as programs do: markdown, csv, json (terminal: `screen`, `latex`, html: `page`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from probe.core import escaping
from probe.core.escaping import one_line
from probe.core.terminal import drawn
from probe.leaderboard.notes import goal_text
from probe.leaderboard.table import Table

if TYPE_CHECKING:
    import pandas as pd

MARKS = {"best": " *", "tied": " ~", "": ""}


def rank_text(line: Any) -> str:
    """Average rank with its interval, or a dash."""
    if line["rank"] != line["rank"]:
        return "-"
    return f"{line['rank']:.3g} [{line['rank_low']:.3g}, {line['rank_high']:.3g}]"


def wide(table: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table as people read it, and the marks of its cells: one line per row, fields, rank, then the columns."""
    import pandas as pd

    by_place = {(cell["row"], cell["column"]): cell for cell in table.cells.to_dict("records")}
    lines, marks = [], []
    for line in table.ranking.to_dict("records"):
        shown = [one_line(line[field]) for field in table.rows] + [rank_text(line)]
        mark = [""] * len(shown)
        for column in table.column_names:
            cell = by_place.get((line["row"], column))
            shown.append(_cell_text(cell, table.measure.spelled) if cell else "missing")
            mark.append(cell["mark"] if cell else "")
        lines.append(shown)
        marks.append(mark)
    names = [*(one_line(table.named(field)) for field in table.rows), "rank", *map(one_line, table.column_names)]
    return pd.DataFrame(lines, columns=names), pd.DataFrame(marks, columns=names)


def _cell_text(cell: Mapping[Any, Any], spelled: Callable[[float], str]) -> str:
    value, low, high = (spelled(cell[key]) for key in ("value", "low", "high"))
    signs = MARKS[cell["mark"]] + " ‡" * bool(cell["not_above"]) + " †" * bool(cell["selected_on"])
    return f"{value} [{low}, {high}]{signs}"


def title(table: Table) -> str:
    """What the numbers are."""
    measure = table.measure
    unit = f", {measure.unit}" if measure.unit else ""
    best = f"best at {goal_text(measure, table.cells)}" if measure.better == "target" else f"{measure.better} is better"
    return f"{table.named(table.metric)}{unit} ({best})"


def problem_lines(table: Table, limit: int = 20) -> list[str]:
    """The folders that are not counted, with reasons."""
    if not table.problems:
        return []
    shown = [f"  {one_line(p.folder)}: {one_line(p.reason)}" for p in table.problems[:limit]]
    more = [f"  and {len(table.problems) - limit} more"] if len(table.problems) > limit else []
    return [f"Not counted ({len(table.problems)}):", *shown, *more]


def markdown(table: Table) -> str:
    """A GitHub table, the best of each column bold, with the notes below."""
    lines, marks = wide(table)
    notes = [escaping.markdown(line) for line in [*table.notes, *(line.strip() for line in problem_lines(table))]]
    body = markdown_lines(lines, marks == "best", len(table.rows) + 1)
    return "\n\n".join([escaping.markdown(title(table)), body, *notes]) + "\n"


def markdown_lines(lines: pd.DataFrame, bold: pd.DataFrame, n_left: int) -> str:
    """Texts as a GitHub table, escaped; the first columns are set to the left, the others to the right."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    found = RichTable(box=box.MARKDOWN, header_style="")
    for i, name in enumerate(lines.columns):
        found.add_column(Text(escaping.markdown(name)), justify="left" if i < n_left else "right", no_wrap=True)
    for values, marks in zip(lines.itertuples(index=False), bold.itertuples(index=False), strict=True):
        cells = [escaping.markdown(value) for value in values]
        found.add_row(*(Text(f"**{v}**" if m else v) for v, m in zip(cells, marks, strict=True)))
    return "\n".join(line.rstrip() for line in drawn(found, width=10**5).strip("\n").splitlines())


def long(table: Table) -> pd.DataFrame:
    """One line per cell: fields, metric, value, bounds, seeds, mark, and the rank of its row; for programs."""
    ranks = table.ranking[["row", "rank", "rank_low", "rank_high"]].reset_index(names="place")
    signs = ["mark", "selected_on", "not_above", *["selectivity"] * bool(table.cells["selectivity"].notna().any())]
    counts = ["n_seeds", *["n_folds"] * bool(table.cells["n_folds"].any()), "n_test"]
    kept = [*table.rows, *table.columns, "metric", "value", "low", "high", *counts, *signs]
    merged = table.cells.merge(ranks, on="row").sort_values(["place", "column"], ignore_index=True)
    return merged[[*dict.fromkeys(kept), "rank", "rank_low", "rank_high"]].rename(columns=table.labels)


def csv(table: Table) -> str:
    """`long` as csv; every number reads back as the same float64."""
    return csv_text(long(table))


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as csv in which no name is a formula."""
    cells = frame.map(escaping.csv_cell).rename(columns=escaping.csv_cell)
    return str(cells.to_csv(index=False, lineterminator="\n"))


def as_json(table: Table) -> str:
    """`long` with the metric, the notes and the folders that are not counted."""
    cells = long(table).astype(object).where(long(table).notna(), None).to_dict("records")
    problems = [{"folder": p.folder, "reason": p.reason} for p in table.problems]
    return json.dumps({"metric": table.metric, "cells": cells, "notes": table.notes, "not_counted": problems}, indent=1)
