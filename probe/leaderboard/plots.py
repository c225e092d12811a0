"""The leaderboard as figures in files: scores, ranks, score against cost, risk against coverage, curves, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.escaping import figure_text
from probe.core.targets import named
from probe.core.writing import write_file
from probe.leaderboard.curves import sized_cells
from probe.leaderboard.export import title
from probe.leaderboard.layers import Depth, gather
from probe.leaderboard.table import Table
from probe.metrics.shared.orders import risk_coverage
from probe.results.reader import read_predictions
from probe.results.writer import slug

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
COLOURS = {"best": "#0a7a3d", "tied": "#0b62c4", "": "#7a828c"}
MAX_ROWS = 60
MAX_LINES = 12
MAX_POINTS = 200


def write_plots(table: Table, frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes each figure as png, svg and pdf; returns the files. `frame` holds the runs behind the table."""
    figures = {
        "scores": scores(table),
        "ranks": ranks(table),
        "cost": cost(table, frame),
        "risk": risk(table, frame),
        "curves": curves(table, frame),
        "layers": layers(table),
    }
    written = []
    for name, figure in figures.items():
        for kind in FORMATS if figure else ():
            # A risk is that of the errors, whatever the metric of the table.
            path = folder / f"{name if name == 'risk' else slug(name, table.metric)}.{kind}"
            write_file(path, _saver(figure, kind))
            written.append(path)
    return written


def write_layers(table: Table, folder: Path) -> list[Path]:
    """Writes the scores by layer of each backbone, head and column as a png named by these."""
    written = []
    for depth in gather(table):
        kind = "attention_heads" if depth.heads else "layers"
        path = folder / f"{slug(kind, table.metric, depth.name)}.png"
        write_file(path, _saver(layers(table, [depth]), "png"))
        written.append(path)
    return written


def _saver(figure: Any, kind: str) -> Callable[[Path], None]:
    # Without a date, the same table gives the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    return lambda path: figure.savefig(path, format=kind, dpi=150, metadata=metadata)


def _figure(width: float, height: float, n_panels: int = 1, **kwargs: Any) -> tuple[Figure, Sequence[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, n_panels, squeeze=False, **kwargs)[0]


def _scale(table: Table) -> float:
    return 100.0 if table.measure.percent else 1.0


def scores(table: Table) -> Figure:
    """One panel per column: the rows in the order of the table, each with its interval."""
    names = list(table.ranking["row"][:MAX_ROWS])
    figure, panels = _figure(
        2 + 2.6 * len(table.column_names), 1 + 0.28 * len(names), len(table.column_names), sharey=True
    )
    cells = table.cells.set_index(["column", "row"])
    for panel, column in zip(panels, table.column_names, strict=True):
        for place, row in enumerate(names):
            if (column, row) in cells.index:
                cell = cells.loc[(column, row)]
                value, low, high = (_scale(table) * cell[key] for key in ("value", "low", "high"))
                panel.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=COLOURS[cell["mark"]])
        panel.set_title(figure_text(column), fontsize=10)
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
    figure, (panel,) = _figure(7, 1 + 0.28 * len(ranked))
    places = np.arange(len(ranked))
    centre, low, high = (ranked[key].to_numpy() for key in ("rank", "rank_low", "rank_high"))
    panel.hlines(places, low, high, color=COLOURS["tied"], linewidth=3, alpha=0.5)
    panel.plot(centre, places, "o", color=COLOURS["tied"])
    panel.set_yticks(places, map(figure_text, ranked["row"]))
    panel.invert_yaxis()
    panel.set_xlabel("average rank, 95% for all rows at once")
    panel.grid(axis="x", alpha=0.3)
    return figure


def cost(table: Table, frame: pd.DataFrame) -> Figure:
    """One panel per column: score against seconds to fit, and the Pareto front."""
    seconds = frame.set_index("name")["seconds.fit"]
    figure, panels = _figure(1 + 3.6 * len(table.column_names), 3.6, len(table.column_names))
    for panel, column in zip(panels, table.column_names, strict=True):
        cells = table.cells[table.cells["column"] == column]
        x = np.maximum([seconds[list(names)].mean() for names in cells["runs"]], 1e-4)
        y, low, high = (_scale(table) * cells[key].to_numpy() for key in ("value", "low", "high"))
        panel.errorbar(x, y, yerr=[y - low, high - y], fmt="o", color=COLOURS["tied"], ecolor=COLOURS[""])
        front = pareto(x, cells["badness"].to_numpy())
        panel.step(x[front], y[front], where="post", color="#c2410c", linestyle=":")
        if len(cells) <= 12:
            for name, at_x, at_y in zip(cells["row"], x, y, strict=True):
                panel.annotate(figure_text(name), (at_x, at_y), (4, 4), textcoords="offset points", fontsize=7)
        panel.set(xscale="log", xlabel="seconds to fit", ylabel=title(table), title=figure_text(column))
        panel.grid(alpha=0.3)
    return figure


def risk(table: Table, frame: pd.DataFrame) -> Figure | None:
    """One panel per column: the share of errors among the most confident rows, the test rows of all seeds together.

    None where no rows have one class each.
    """
    folders, targets = (frame.set_index("name")[field] for field in ("folder", "dataset.target"))
    figure, panels = _figure(1 + 3.6 * len(table.column_names), 3.6, len(table.column_names))
    for panel, column in zip(panels, table.column_names, strict=True):
        cells = table.cells[table.cells["column"] == column].head(MAX_LINES)
        for row, names in zip(cells["row"], cells["runs"], strict=True):
            if not named(targets[names[0]]).exclusive:  # several labels, or numbers, have no one confidence
                continue
            runs = [read_predictions(folders[name]) for name in names]
            confidence = np.concatenate([run["predicted_log_odds"] for run in runs])
            coverage, share = risk_coverage(confidence, np.concatenate([run["label_rank"] == 0 for run in runs]))
            shown = np.unique(np.linspace(0, len(coverage) - 1, MAX_POINTS).astype(int))
            panel.plot(100 * coverage[shown], 100 * share[shown], linewidth=1, label=figure_text(row))
        panel.set(xlabel="answered, most confident first, %", ylabel="of these wrong, %", title=figure_text(column))
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=7)
    return figure if any(panel.lines for panel in panels) else None


def pareto(x: np.ndarray, badness: np.ndarray) -> list[int]:
    """Places of the points that none beats in both, by rising cost."""
    front: list[int] = []
    for i in np.lexsort((badness, x)):
        if not front or badness[i] < badness[front[-1]]:
            front.append(int(i))
    return front


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
    figure, panels = _figure(1 + 4.5 * len(groups) * (1 + errors), 4, len(groups) * (1 + errors))
    for place, group in enumerate(groups):
        cells = several[several["group"] == group]
        _curves(panels[place * (1 + errors)], cells, lambda value: _scale(table) * value)
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


def layers(table: Table, depths: Sequence[Depth] | None = None) -> Figure | None:
    """One panel per backbone, head and column: score over depth, or layer x attention head as a heat map."""
    found = gather(table) if depths is None else depths
    if not found:
        return None
    longest = max(len(depth.layers) for depth in found)
    width = max(4.5, *(1.5 + 0.45 * len(depth.heads) for depth in found))
    figure, panels = _figure(width * len(found), max(3.6, 1.4 + 0.3 * longest), len(found))
    for panel, depth in zip(panels, found, strict=True):
        names, places = [figure_text(layer) for layer in depth.layers], np.arange(len(depth.layers))
        panel.set_title(figure_text(depth.name), fontsize=9)
        if depth.heads:
            _heat_map(figure, panel, depth, _scale(table), title(table))
            panel.set_yticks(places, names, fontsize=8)
            continue
        value, low, high = (_scale(table) * array for array in (depth.value, depth.low, depth.high))
        panel.plot(places, value, marker="o", color=COLOURS["tied"])
        panel.fill_between(places, low, high, color=COLOURS["tied"], alpha=0.2, linewidth=0)
        panel.set_xticks(places, names, rotation=45, ha="right", fontsize=8)
        panel.set_ylabel(title(table))
        panel.grid(alpha=0.3)
    return figure


def _heat_map(figure: Figure, panel: Any, depth: Depth, scale: float, label: str) -> None:
    image = panel.imshow(scale * depth.value, aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=panel, label=label)
    panel.set_xticks(range(len(depth.heads)), depth.heads)
    panel.set_xlabel("attention head")
    middle, text = np.mean(image.get_clim()), "{:.1f}" if scale > 1 else "{:.3f}"
    for (y, x), value in np.ndenumerate(scale * depth.value):
        if depth.value.size <= 256 and np.isfinite(value):
            colour = "black" if value > middle else "white"
            panel.text(x, y, text.format(value), ha="center", va="center", fontsize=7, color=colour)
