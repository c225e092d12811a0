"""One backbone read at several layers: scores over depth, and of attention heads as layer x head."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.export import title
from probe.leaderboard.screen import Layout, tables
from probe.leaderboard.select import natural
from probe.leaderboard.table import Table
from probe.metrics.shared.intervals import FloatArray

if TYPE_CHECKING:
    import pandas as pd

READ = re.compile(r"\(pooled=([^,()]+)\)")
"""How the label of a backbone names a layer that stands in for its pooled feature."""
END = "pooled"
ENTRY = re.compile(r"(.+):heads\.(\d+)")


@dataclass(frozen=True)
class Depth:
    """Scores of one head on the layers of one backbone, in one column of the table.

    Attributes:
        name: Backbone, head and column.
        layers: L names, numbers in them by size; the backbone's own pooled feature comes last.
        heads: H numbers of attention heads; empty where layers are read whole.
        value: (L,) or (L, H) the metric, nan where nothing was run.
        low: Of the 95% interval.
        high: Of the 95% interval.
    """

    name: str
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    value: FloatArray
    low: FloatArray
    high: FloatArray


def gather(table: Table) -> list[Depth]:
    """All groups of cells that differ in the layer alone; none where no backbone was read at several layers."""
    cells: dict[tuple[str, bool], dict[tuple[str, int], Mapping[Any, Any]]] = {}
    for cell in table.cells.to_dict("records"):
        read = READ.search(str(cell["row"]))
        layer = read[1] if read else END
        entry = ENTRY.fullmatch(layer)
        name = f"{READ.sub('', str(cell['row']))}, {cell['column']}"
        key = (entry[1], int(entry[2])) if entry else (layer, 0)
        cells.setdefault((name, entry is not None), {})[key] = cell
    # One layer is no depth.
    return [_depth(name, group, by_head) for (name, by_head), group in cells.items() if len(group) > 1]


def _depth(name: str, group: dict[tuple[str, int], Mapping[Any, Any]], by_head: bool) -> Depth:
    layers = [*natural({layer for layer, _ in group} - {END}), *([END] if (END, 0) in group else [])]
    heads = sorted({head for _, head in group})
    arrays = {}
    for key in ("value", "low", "high"):
        rows = [[group[layer, head][key] if (layer, head) in group else np.nan for head in heads] for layer in layers]
        arrays[key] = np.array(rows) if by_head else np.array(rows)[:, 0]
    return Depth(name, tuple(layers), tuple(heads) if by_head else (), **arrays)


def text(table: Table, frame: pd.DataFrame, width: int | None = None) -> str:
    """For the terminal: a line per layer, with a column per attention head where heads were read.

    Raises:
        InputError: No backbone was read at several layers.
    """
    import pandas as pd

    found = gather(table)
    if not found:
        raise InputError("no backbone was read at several layers: run, for example, probe -m experiment=layerwise")
    parts: list[Any] = []
    room = width or columns()
    for depth in found:
        names = ["layer", *([f"head {head}" for head in depth.heads] or [one_line(table.metric)])]
        lines = [
            [one_line(layer), *_shown(depth, place, table.measure.spelled)] for place, layer in enumerate(depth.layers)
        ]
        parts.append(f"By layer, {title(table)}: {one_line(depth.name)}")
        parts += tables([Layout(pd.DataFrame(lines, columns=names), 1)], room)
    return drawn(*parts, width=room)


def _shown(depth: Depth, place: int, spelled: Callable[[float], str]) -> list[str]:
    if not depth.heads:
        value, low, high = (spelled(array[place]) for array in (depth.value, depth.low, depth.high))
        return [f"{value} [{low}, {high}]"]
    return ["missing" if np.isnan(value) else spelled(value) for value in depth.value[place]]
