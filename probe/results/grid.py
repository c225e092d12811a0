"""The grid of probes of a run: a metric per cell with its interval, as numbers, a table and a heat map."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.escaping import csv_cell, figure_text, latex, one_line
from probe.core.terminal import drawn

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PICTURE, TABLE, LATEX = "grid.png", "grid.csv", "grid.tex"
BY_HEAD = "attention head"
CHOSEN = "#d1242f"
WRITTEN = 256
"""Cells up to which a heat map writes the numbers."""


@dataclass(frozen=True, repr=False)
class Grid:
    """What `result.json` says under `grid`, as arrays; nan where there is no cell.

    Attributes:
        rows, columns: R and C names, of layers and of positions or attention heads.
        axes: What they are.
        metric: Whose numbers these are.
        percent: Whether it is shown times 100.
        value, low, high: (R, C) on the test rows, with the 95 % interval.
        chosen: Row and column of the cell that predicts, which was chosen on other rows.
        cells: As the record has them.
        on: What it was chosen on.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    axes: tuple[str, str]
    metric: str
    percent: bool
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    chosen: tuple[int, int]
    cells: Sequence[Mapping[str, Any]]
    on: str

    @classmethod
    def of(cls, record: Mapping[str, Any], metric: str | None = None) -> Grid:
        """The grid of a run, by one of its metrics.

        Raises:
            InputError: It has no such metric.
        """
        cells, name = record["cells"], metric or record["metric"]
        if odd := [cell["cell"] for cell in cells if name not in cell["metrics"]]:
            raise InputError(
                f"the grid has no metric {name!r} of cell {odd[0]}, expected one of {', '.join(cells[0]['metrics'])}: "
                "ask for one of these"
            )
        rows, columns = (tuple(dict.fromkeys(cell[key] for cell in cells)) for key in ("row", "column"))
        arrays = {key: np.full((len(rows), len(columns)), np.nan) for key in ("value", "low", "high")}
        places = {cell["cell"]: (rows.index(cell["row"]), columns.index(cell["column"])) for cell in cells}
        for cell in cells:
            for key, array in arrays.items():
                array[places[cell["cell"]]] = cell["metrics"][name][key]
        first, second = record["axes"]
        chosen = record["chosen"]
        percent = name in record.get("percent", ())
        return cls(
            rows,
            columns,
            (first, second),
            name,
            percent,
            **arrays,
            chosen=places[chosen["cell"]],
            cells=cells,
            on=chosen["on"],
        )

    def frame(self) -> pd.DataFrame:
        """A line per cell: where it stands, its penalty, its score where it was chosen, every metric with interval."""
        import pandas as pd

        return pd.DataFrame(self._lines())

    def _lines(self) -> list[dict[str, Any]]:
        where = self.rows[self.chosen[0]], self.columns[self.chosen[1]]
        lines = []
        for cell in self.cells:
            told = {self.axes[0]: cell["row"], self.axes[1]: cell["column"], "cell": cell["cell"], "C": cell["C"]}
            told |= {"chosen": (cell["row"], cell["column"]) == where, "score_where_chosen": cell.get("score")}
            for name, found in cell["metrics"].items():
                told |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
            lines.append(told)
        return lines

    def csv(self) -> str:
        """`frame` as a csv file, its texts harmless in a spreadsheet."""
        lines = self._lines()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({csv_cell(key): csv_cell(value) for key, value in line.items()} for line in lines)
        return text.getvalue()

    @property
    def caption(self) -> str:
        """What has to be said beside the numbers."""
        row, column = self.rows[self.chosen[0]], self.columns[self.chosen[1]]
        return (
            f"{self.metric} on test rows with its 95 % interval; * the best of {len(self.cells)} on {self.on}, a choice"
            f": {row}, {self.axes[1]} {column}, predicts"
        )

    def text(self, width: int = 100) -> str:
        """A table for the terminal; the interval stands beside each value where there is room."""
        from rich import box
        from rich.table import Table

        narrow = 24 * len(self.columns) + 20 > max(width, 100)
        table = Table(box=box.SIMPLE, header_style="")
        table.add_column(self.axes[0])
        for name in self.columns:
            table.add_column(one_line(f"head {name}" if self.axes[1] == BY_HEAD else name), justify="right")
        for place, name in enumerate(self.rows):
            table.add_row(one_line(name), *(self._shown(place, i, narrow) for i in range(len(self.columns))))
        return drawn(table, one_line(self.caption), width=max(width, 24 + (9 if narrow else 26) * len(self.columns)))

    def _spelled(self, value: float) -> str:
        return f"{100 * value:.1f}" if self.percent else f"{value:.3f}"

    def _shown(self, row: int, column: int, narrow: bool) -> str:
        value, low, high = (self._spelled(array[row, column]) for array in (self.value, self.low, self.high))
        if np.isnan(self.value[row, column]):
            return ""
        mark = "*" if (row, column) == self.chosen else ""
        return f"{mark}{value}" if narrow else f"{mark}{value} [{low}, {high}]"

    def latex(self) -> str:
        """A table for a paper, of the value and its interval; the cell that was chosen stands in bold."""
        lines = [
            f"% {one_line(self.caption)}",
            rf"\begin{{tabular}}{{l{'c' * len(self.columns)}}}",
            r"\hline",
            " & ".join([latex(self.axes[0]), *map(latex, self.columns)]) + r" \\",
            r"\hline",
        ]
        for place, name in enumerate(self.rows):
            shown = [self._shown(place, i, narrow=False) for i in range(len(self.columns))]
            shown = [rf"\textbf{{{text[1:]}}}" if text.startswith("*") else text for text in shown]
            lines.append(" & ".join([latex(name), *shown]) + r" \\")
        return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])

    def figure(self) -> Figure:
        """The heat map, the chosen cell in a frame."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        size = max(4.5, 2.5 + 0.55 * len(self.columns)), max(3.2, 1.6 + 0.3 * len(self.rows))
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        panel = figure.subplots()
        scale, spelled, unit = (100, "{:.1f}", ", %") if self.percent else (1, "{:.3f}", "")
        heat_map(figure, panel, scale * self.value, spelled, f"{self.metric} on test rows{unit}")
        panel.set_xticks(range(len(self.columns)), map(figure_text, self.columns))
        panel.set_yticks(range(len(self.rows)), map(figure_text, self.rows), fontsize=8)
        panel.set(xlabel=self.axes[1], ylabel=self.axes[0])
        row, column = self.chosen
        corner = column - 0.5, row - 0.5
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=CHOSEN, linewidth=2, clip_on=False))
        panel.set_title(f"framed: the cell chosen on {self.on}", fontsize=8, color=CHOSEN, loc="left")
        return figure

    def __repr__(self) -> str:
        return self.text()


def heat_map(figure: Any, panel: Any, values: NDArray[np.float64], spelled: str, label: str) -> None:
    """Draws (R, C) values with their scale, and writes them where they are few."""
    image = panel.imshow(values, aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=panel, label=label)
    middle = np.mean(image.get_clim())
    for (y, x), value in np.ndenumerate(values):
        if values.size <= WRITTEN and np.isfinite(value):
            colour = "black" if value > middle else "white"
            panel.text(x, y, spelled.format(value), ha="center", va="center", fontsize=7, color=colour)
