"""The leaderboard as figures in files: scores, ranks, costs, risk against coverage, curves, tasks, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.escaping import figure_text
from probe.core.writing import write_file
from probe.leaderboard.curves import sized_cells
from probe.leaderboard.export import title
from probe.leaderboard.figures import COLOURS, GREY, figure_of, saver, scale
from probe.leaderboard.layers import Depth, Found, gather
from probe.leaderboard.rows_in_colour import cost, risk
from probe.leaderboard.table import Table
from probe.leaderboard.tasks import gather as lines_of_tasks
from probe.results.grid import heat_map
from probe.results.writer import slug

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
MAX_ROWS = 60
LETTERS = 12
"""Of a title, in an inch."""


def write_plots(table: Table, frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes each figure as png, svg and pdf; returns the files. `frame` holds the runs behind the table."""
    figures = {
        "scores": scores(table),
        "ranks": ranks(table),
        "cost": cost(table, frame),
        "risk": risk(table, frame),
        "curves": curves(table, frame),
        "tasks": tasks(table, frame),
        "layers": layers(table, gather(table, frame)),
    }
    written = []
    for name, figure in figures.items():
        for kind in FORMATS if figure else ():
            # A risk is that of the errors, whatever the metric of the table.
            path = folder / f"{name if name == 'risk' else slug(name, table.metric)}.{kind}"
            write_file(path, saver(figure, kind))
            written.append(path)
    return written


def write_layers(table: Table, frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes the scores by layer of each backbone, head and column as a png named by these."""
    written = []
    for depth in gather(table, frame):
        kind = "attention_heads" if depth.heads else "layers"
        path = folder / f"{slug(kind, table.metric, depth.name)}.png"
        write_file(path, saver(layers(table, [depth]), "png"))
        written.append(path)
    return written


def _within(name: str, width: float) -> str:
    """A name in lines that fit so many inches; each is escaped as a whole, so that no line ends inside an escape."""
    return "\n".join(map(figure_text, wrap(name, int(LETTERS * width))))


def scores(table: Table) -> Figure:
    """One panel per column: the rows in the order of the table, each with its interval."""
    names = list(table.ranking["row"][:MAX_ROWS])
    width = 2.6
    figure, panels = figure_of(
        2 + width * len(table.column_names), 1 + 0.28 * len(names), len(table.column_names), sharey=True
    )
    cells = table.cells.set_index(["column", "row"])
    for panel, column in zip(panels, table.column_names, strict=True):
        for place, row in enumerate(names):
            if (column, row) in cells.index:
                cell = cells.loc[(column, row)]
                value, low, high = (scale(table) * cell[key] for key in ("value", "low", "high"))
                panel.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=COLOURS[cell["mark"]])
        panel.set_title(_within(column, width), fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), map(figure_text, names))
    panels[0].invert_yaxis()
    figure.supxlabel(f"{title(table)}; green: best, blue: not distinguishable from it", fontsize=9)
    return figure


def ranks(table: Table) -> Figure | None:
    """Average ranks with their intervals; none where no row is ranked."""
    ranked = table.ranking[table.ranking["rank"].notna()][:MAX_ROWS]
    if ranked.empty:
        return None
    figure, (panel,) = figure_of(7, 1 + 0.28 * len(ranked))
    places = np.arange(len(ranked))
    centre, low, high = (ranked[key].to_numpy() for key in ("rank", "rank_low", "rank_high"))
    panel.hlines(places, low, high, color=COLOURS["tied"], linewidth=3, alpha=0.5)
    panel.plot(centre, places, "o", color=COLOURS["tied"])
    panel.set_yticks(places, map(figure_text, ranked["row"]))
    panel.invert_yaxis()
    panel.set_xlabel("average rank, 95% for all rows at once")
    panel.grid(axis="x", alpha=0.3)
    return figure


def curves(table: Table, frame: pd.DataFrame) -> Figure | None:
    """Score against training rows with its interval as a band, one panel per dataset and protocol.

    A proportion gets a second panel with the error, both axes logarithmic. None where no row of the table has several
    sizes.
    """
    from matplotlib.ticker import LogFormatter

    cells = sized_cells(table, frame)
    several = cells[cells.groupby(["row", "group"])["n_rows"].transform("nunique") > 1]
    if several.empty:
        return None
    groups = sorted(several["group"].unique())
    errors = table.measure.proportion and table.higher_is_better
    figure, panels = figure_of(1 + 4.5 * len(groups) * (1 + errors), 4, len(groups) * (1 + errors))
    for place, group in enumerate(groups):
        cells = several[several["group"] == group]
        _curves(panels[place * (1 + errors)], cells, lambda value: scale(table) * value)
        panels[place * (1 + errors)].set(ylabel=title(table), title=figure_text(group))
        if errors:
            _curves(panels[2 * place + 1], cells, partial(_error, floor=0.1 / float(cells["n_test"].max())))
            panels[2 * place + 1].set(yscale="log", ylabel=f"100 - {table.metric}, %", title=figure_text(group))
            # Percents, not powers of ten.
            panels[2 * place + 1].yaxis.set_major_formatter(LogFormatter())
            panels[2 * place + 1].yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    return figure


def _error(share: Any, floor: float) -> Any:
    """Percent that is wrong; a log axis has no 0, so less than the floor, a tenth of a test row, is drawn there."""
    return 100 * np.maximum(1 - share, floor)


def _curves(panel: Any, cells: pd.DataFrame, of: Callable[[Any], Any]) -> None:
    """One line with its band per row of the table; `of` turns a value of the metric into what is drawn."""
    for row, line in cells.sort_values("n_rows").groupby("row", sort=True):
        value, low, high = (of(line[key].to_numpy()) for key in ("value", "low", "high"))
        (drawn,) = panel.plot(line["n_rows"], value, marker="o", markersize=3, label=figure_text(row))
        panel.fill_between(line["n_rows"], low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    panel.set(xscale="log", xlabel="training rows, validation included")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


def tasks(table: Table, frame: pd.DataFrame) -> Figure | None:
    """Accuracy on all tasks so far after each of them, one panel per column; None where no rows came in tasks."""
    lines = lines_of_tasks(table, frame)
    columns = [column for column in table.column_names if any(line.column == column for line in lines)]
    if not columns:
        return None
    figure, panels = figure_of(1 + 4.5 * len(columns), 4, len(columns))
    for panel, column in zip(panels, columns, strict=True):
        for line in (line for line in lines if line.column == column):
            number = np.arange(1, len(line.value) + 1)
            (drawn,) = panel.plot(number, 100 * line.value, marker="o", markersize=3, label=figure_text(line.row))
            panel.fill_between(number, 100 * line.low, 100 * line.high, color=drawn.get_color(), alpha=0.2, linewidth=0)
        panel.set(xlabel="tasks so far", ylabel="accuracy on their test rows, %", title=figure_text(column))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.supxlabel("bands: 95% over seeds, which draw the order of the tasks", fontsize=8)
    return figure


def layers(table: Table, found: Sequence[Depth]) -> Figure | None:
    """One panel per backbone, head and column: score over depth, or layer x attention head as a heat map.

    A star stands where a layer was chosen, at the score of the runs that chose it, larger where more did; a dashed line
    is the score of a mixture, and bars are its weights.
    """
    if not found:
        return None
    longest = max(len(depth.layers) for depth in found)
    width = max(4.5, *(1.5 + 0.45 * len(depth.heads) for depth in found))
    figure, panels = figure_of(width * len(found), max(3.6, 1.4 + 0.3 * longest), len(found))
    for panel, depth in zip(panels, found, strict=True):
        names, places = [figure_text(layer) for layer in depth.layers], np.arange(len(depth.layers))
        panel.set_title(_within(depth.name, width), fontsize=9)
        if depth.heads:
            _heat_map(figure, panel, depth, scale(table), title(table))
            panel.set_yticks(places, names, fontsize=8)
            continue
        value, low, high = (scale(table) * array for array in (depth.value, depth.low, depth.high))
        panel.plot(places, value, marker="o", color=COLOURS["tied"])
        panel.fill_between(places, low, high, color=COLOURS["tied"], alpha=0.2, linewidth=0)
        panel.set_xticks(places, names, rotation=45, ha="right", fontsize=8)
        panel.set_ylabel(title(table))
        panel.grid(alpha=0.3)
        for one in depth.found:
            _mark(panel, depth, one, scale(table))
        if depth.found:
            panel.legend(fontsize=7)
    return figure


def _mark(panel: Any, depth: Depth, found: Found, scale: float) -> None:
    """Marks in a panel which layers were chosen, or what each weighs."""
    places = np.array([depth.layers.index(layer) for layer in found.shares])
    shares = np.array([value for value, _, _ in found.shares.values()])
    label = figure_text(f"{found.name}, {scale * found.value:.1f}" if scale > 1 else f"{found.name}, {found.value:.3f}")
    if not found.mixes:
        at = shares > 0
        panel.scatter(places[at], np.full(at.sum(), scale * found.value), 60 + 120 * shares[at], marker="*",
                      color=COLOURS["best"], zorder=3, label=label)  # fmt: skip
        return
    panel.axhline(scale * found.value, color=GREY, linestyle="--", label=label)
    beside = panel.twinx()
    ends = np.nan_to_num([[v - low, high - v] for v, low, high in found.shares.values()]).T
    beside.bar(places, shares, width=0.4, yerr=ends, color=GREY, alpha=0.3, error_kw={"alpha": 0.5})
    beside.set_ylim(0, 1)
    beside.set_ylabel("weight in the mixture", fontsize=8)


def _heat_map(figure: Figure, panel: Any, depth: Depth, scale: float, label: str) -> None:
    heat_map(figure, panel, scale * depth.value, "{:.1f}" if scale > 1 else "{:.3f}", label)
    panel.set_xticks(range(len(depth.heads)), depth.heads)
    panel.set_xlabel("attention head")
