"""What all figures of a leaderboard share: empty panels, the scale of their numbers, how they become files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.leaderboard.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#7a828c"
COLOURS = {"best": "#0a7a3d", "tied": "#0b62c4", "": GREY}
BESIDE = 3
"""Panels on one line of a figure."""


def figure_of(width: float, height: float, n_panels: int = 1, **kwargs: Any) -> tuple[Figure, Sequence[Any]]:
    """A figure of panels beside each other, of the whole size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, n_panels, squeeze=False, **kwargs)[0]


def blank(n_panels: int, width: float, height: float) -> tuple[Figure, Sequence[Any]]:
    """A figure of panels of one size, a few on each line; room for a legend at its side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_across = min(n_panels, BESIDE)
    n_down = -(-n_panels // n_across)
    figure = Figure(figsize=(1.5 + width * n_across, height * n_down), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(n_down, n_across, squeeze=False).ravel()
    for panel in panels[n_panels:]:
        panel.set_axis_off()
    return figure, list(panels[:n_panels])


def saver(figure: Any, kind: str) -> Callable[[Path], None]:
    """Writes a figure; without a date, so that the same table gives the same file."""
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    return lambda path: figure.savefig(path, format=kind, dpi=150, metadata=metadata)


def scale(table: Table) -> float:
    """What numbers of the metric are multiplied by."""
    return 100.0 if table.measure.percent else 1.0
