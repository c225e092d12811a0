"""Figures in which each row of the table is a point or a line: score against cost, risk against coverage.

A backbone (the first field of a row) is a colour, a head (the other fields) a marker; a legend outside tells both.
Names stand beside points and lines as far as there is room for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.escaping import figure_text
from probe.core.targets import named
from probe.leaderboard.export import title
from probe.leaderboard.figures import GREY, blank, scale
from probe.leaderboard.table import Table
from probe.metrics.shared.orders import risk_coverage
from probe.results.reader import read_predictions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4fbf", "#8c564b", "#5d7f00", "#b8134e",
)  # fmt: skip
"""Told apart by most who see few colours (the first six: Okabe and Ito, "Color Universal Design", 2008)."""
MARKERS = "os^DvPX*<>phd8"
FRONT = "#555b65"
MAX_NAMED = 12
MAX_POINTS = 200
SIZE = 7
LINE = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0}
NEAR = 9
OFFSETS = [
    (right * away, up * away)
    for away in (7, 14, 22, 32, 44)
    for right, up in ((1, 0), (-1, 0), (0.8, 0.9), (-0.8, 0.9), (0.8, -0.9), (-0.8, -0.9), (0, 1.3), (0, -1.3))
]
"""Where a name may stand, in points from its own; beyond `NEAR` a line leads to it."""


@dataclass(frozen=True)
class Style:
    """How a row is drawn: its colour, and its marker, of which every second round is hollow."""

    colour: Any
    marker: str
    hollow: bool

    @property
    def face(self) -> Any:
        """What a marker is filled with."""
        return "white" if self.hollow else self.colour


def styles(table: Table) -> tuple[dict[str, Style], list[Any]]:
    """The style of each row, best first, and the entries of the legend that tells them."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    lines = [[figure_text(line[field]) for field in table.rows] for line in table.ranking.to_dict("records")]
    colours, markers = (
        list(dict.fromkeys(names)) for names in zip(*((n[0], " ".join(n[1:])) for n in lines), strict=True)
    )
    many = colormaps["turbo"](np.linspace(0.05, 0.95, len(colours)))
    colour = dict(zip(colours, PALETTE if len(colours) <= len(PALETTE) else many, strict=False))
    marker = {name: (MARKERS[i % len(MARKERS)], (i // len(MARKERS)) % 2 == 1) for i, name in enumerate(markers)}
    found = {
        str(row): Style(colour[names[0]], *marker[" ".join(names[1:])])
        for row, names in zip(table.ranking["row"], lines, strict=True)
    }
    entries = [Line2D([], [], color=colour[name], linewidth=4, label=name) for name in colours]
    for name in markers if len(table.rows) > 1 else ():
        face = "white" if marker[name][1] else FRONT
        entries.append(Line2D([], [], color=FRONT, marker=marker[name][0], mfc=face, linestyle="", label=name))
    return found, entries


def cost(table: Table, frame: pd.DataFrame) -> Figure:
    """One panel per column: score against seconds to fit, and the Pareto front."""
    seconds = frame.set_index("name")["seconds.fit"]
    of_row, entries = styles(table)
    figure, panels = blank(len(table.column_names), 5.2, 3.9)
    drawn = []
    for panel, column in zip(panels, table.column_names, strict=True):
        cells = table.cells[table.cells["column"] == column]
        x = np.maximum([seconds[list(names)].mean() for names in cells["runs"]], 1e-4)
        y, low, high = (scale(table) * cells[key].to_numpy() for key in ("value", "low", "high"))
        front = pareto(x, cells["badness"].to_numpy())
        panel.step(x[front], y[front], where="post", color=FRONT, linestyle=":", linewidth=1, zorder=1)
        own = [of_row[row] for row in cells["row"]]
        for place, style in enumerate(own):
            panel.vlines(x[place], low[place], high[place], color=style.colour, linewidth=1, alpha=0.35, zorder=2)
            panel.plot(x[place], y[place], style.marker, color=style.colour, mfc=style.face, markersize=6, zorder=3)
        panel.set(xscale="log", xlabel="seconds to fit", ylabel=title(table), title=figure_text(column))
        panel.grid(alpha=0.25)
        others = set(range(len(cells))) - set(front) if len(cells) <= MAX_NAMED else ()
        names = [(figure_text(cells["row"].iloc[i]), x[i], y[i], own[i].colour) for i in [*front, *others]]
        drawn.append((panel, names, np.stack([x, y, low, high])))
    figure.legend(handles=entries, loc="outside right upper", fontsize=SIZE + 1, frameon=False)
    figure.canvas.draw()  # only now is it known where everything stands
    for panel, names, points in drawn:
        name_points(panel, names, points)
    return figure


def name_points(panel: Any, names: Sequence[tuple[str, float, float, Any]], points: Any) -> None:
    """Writes names beside their points where they cover no other point, interval or name; leaves out the rest.

    Args:
        panel: Drawn already.
        names: Of some points, each with its place and colour.
        points: (4, n) of all points: x, y, and the ends of the interval.
    """
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer, inside = panel.figure.canvas.get_renderer(), panel.get_window_extent()
    x, y, low, high = points
    at, bottom, top = (panel.transData.transform(np.column_stack([x, end])) for end in (y, low, high))
    half = 5 * panel.figure.dpi / 100
    taken = [Bbox([[px - half, py - half], [px + half, py + half]]) for px, py in at]
    taken += [Bbox([[px - 1, a], [px + 1, b]]) for px, a, b in zip(at[:, 0], bottom[:, 1], top[:, 1], strict=True)]
    for name, at_x, at_y, colour in names:
        text = panel.annotate(
            name, (at_x, at_y), (0, 0), textcoords="offset points", fontsize=SIZE, color=colour, va="center",
            arrowprops={**LINE, "color": colour, "shrinkB": 3},
        )  # fmt: skip
        text.set_in_layout(False)
        for right, up in OFFSETS:
            text.set(ha="left" if right > 0 else "right" if right < 0 else "center", position=(right, up))
            text.arrow_patch.set_visible(abs(up) > NEAR or abs(right) > NEAR)
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # without its line
            is_inside = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            text.remove()


def risk(table: Table, frame: pd.DataFrame) -> Figure | None:
    """One panel per column: the share of errors among the most confident rows, the test rows of all seeds together.

    The best rows are in colour and have their names at the end of their lines, all others are grey. None where no rows
    have one class each.
    """
    folders, targets = (frame.set_index("name")[field] for field in ("folder", "dataset.target"))
    of_row, _ = styles(table)
    figure, panels = blank(len(table.column_names), 5.6, 3.9)
    for panel, column in zip(panels, table.column_names, strict=True):
        cells = table.cells[table.cells["column"] == column].sort_values("badness", kind="stable")
        ends, highest = [], 1.0
        for place, (row, names) in enumerate(zip(cells["row"], cells["runs"], strict=True)):
            if not named(targets[names[0]]).exclusive:  # several labels, or numbers, have no one confidence
                continue
            x, y = _risk([read_predictions(folders[name]) for name in names])
            if place >= MAX_NAMED:
                panel.plot(x, y, linewidth=0.7, color=GREY, alpha=0.5, zorder=1)
                continue
            style = of_row[row]
            panel.plot(x, y, linewidth=1.2, color=style.colour, marker=style.marker, mfc=style.face, markersize=4,
                       markevery=(len(x) // 12 * place // MAX_NAMED + 1, max(1, len(x) // 6)), zorder=3)  # fmt: skip
            ends.append((figure_text(row), float(y[-1]), style.colour))
            highest = max(highest, float(y[x >= 10].max()))
        more = f", {len(cells) - MAX_NAMED} more rows in grey" if len(cells) > MAX_NAMED else ""
        panel.set(xlabel="answered, most confident first, %", ylabel="of these wrong, %")
        panel.set(title=f"{figure_text(column)}{more}", xlim=(0, 100), ylim=(0, min(102, 1.2 * highest)))
        panel.grid(alpha=0.25)
        name_ends(panel, ends)
    return figure if any(panel.lines for panel in panels) else None


def _risk(runs: Sequence[Any]) -> tuple[Any, Any]:
    """Percent answered, and percent of these wrong, at a few places."""
    confidence = np.concatenate([run["predicted_log_odds"] for run in runs])
    coverage, share = risk_coverage(confidence, np.concatenate([run["label_rank"] == 0 for run in runs]))
    shown = np.unique(np.linspace(0, len(coverage) - 1, MAX_POINTS).astype(int))
    return 100 * coverage[shown], 100 * share[shown]


def name_ends(panel: Any, ends: Sequence[tuple[str, float, Any]]) -> None:
    """Writes the names of lines behind their ends, in their order and as far apart as letters are high."""
    if not ends:
        return
    bottom, top = panel.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    step = (SIZE + 2) / 72 / 3.1 * (top - bottom)
    places = spread_out([end[1] for end in ordered], step, bottom, top)
    for (name, y, colour), place in zip(ordered, places, strict=True):
        panel.annotate(
            name, (100, y), (104, place), fontsize=SIZE, color=colour, va="center", annotation_clip=False,
            arrowprops={**LINE, "color": colour, "shrinkB": 0, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread_out(wanted: Sequence[float], step: float, bottom: float, top: float) -> list[float]:
    """Rising places at least a step apart, near those that are wanted, within the ends as far as they have room."""
    places: list[float] = []
    for value in wanted:
        places.append(max(value, places[-1] + step if places else bottom))
    highest = max(top, bottom + step * (len(places) - 1))
    for i in reversed(range(len(places))):
        places[i] = min(places[i], highest)
        highest = places[i] - step
    return places


def pareto(x: np.ndarray, badness: np.ndarray) -> list[int]:
    """Places of the points that none beats in both, by rising cost."""
    front: list[int] = []
    for i in np.lexsort((badness, x)):
        if not front or badness[i] < badness[front[-1]]:
            front.append(int(i))
    return front
