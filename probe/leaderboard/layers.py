"""One backbone read at several layers: scores over depth, and of attention heads as layer x head."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.export import title
from probe.leaderboard.screen import Layout, tables
from probe.leaderboard.select import as_dicts, natural
from probe.leaderboard.table import Table
from probe.metrics.shared.intervals import FloatArray

if TYPE_CHECKING:
    import pandas as pd

READ = re.compile(r"\(pooled=([^,()]+)\)")
"""How the label of a backbone names a layer that stands in for its pooled feature."""
END = "pooled"
ENTRY = re.compile(r"(.+):heads\.(\d+)")


@dataclass(frozen=True)
class Found:
    """Runs that found their layer by themselves, in one column of the table.

    Attributes:
        name: As it was asked for, such as `blocks.*:best`.
        value: The metric.
        low: Of the 95% interval.
        high: Of the 95% interval.
        shares: Of each layer the mean over R runs, with its 95% interval over these (Student's t; nan where R = 1): of
            `best` the part of the runs that chose it, of `mix` its weight.
        n_runs: R.
    """

    name: str
    value: float
    low: float
    high: float
    shares: Mapping[str, tuple[float, float, float]]
    n_runs: int

    @property
    def mixes(self) -> bool:
        """Whether layers are summed, and none is chosen."""
        return self.name.endswith(":mix")


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
        found: Runs that chose among layers, or mixed them.
    """

    name: str
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    value: FloatArray
    low: FloatArray
    high: FloatArray
    found: tuple[Found, ...] = ()


def gather(table: Table, frame: pd.DataFrame) -> list[Depth]:
    """All groups of cells that differ in the layer alone; none where no backbone was read at several layers.

    Args:
        table: Of some metric.
        frame: The runs behind it.
    """
    cells: dict[tuple[str, bool], dict[tuple[str, int], Mapping[Any, Any]]] = {}
    found: dict[str, list[Found]] = {}
    for cell in as_dicts(table.cells):
        read = READ.search(str(cell["row"]))
        layer = read[1] if read else END
        name = f"{READ.sub('', str(cell['row']))}, {cell['column']}"
        if layer.endswith((":best", ":mix")):
            found.setdefault(name, []).append(_found(layer, cell, frame))
            continue
        entry = ENTRY.fullmatch(layer)
        key = (entry[1], int(entry[2])) if entry else (layer, 0)
        cells.setdefault((name, entry is not None), {})[key] = cell
    # One layer is no depth.
    several = [key for key, group in cells.items() if key[1] or key[0] in found or len(group) > 1]
    names = dict.fromkeys([*several, *((name, False) for name in found)])
    depths = [_depth(name, cells.get((name, by_head), {}), by_head, found.get(name, [])) for name, by_head in names]
    return [depth for depth in depths if len(depth.layers) > 1 or depth.heads]


def _found(layer: str, cell: Mapping[Any, Any], frame: pd.DataFrame) -> Found:
    runs = [json.loads(told) for told in frame.loc[frame["name"].isin(cell["runs"]), "layers"]]
    names = dict.fromkeys(name for run in runs for name in run)
    shares = {name: over_runs(np.array([run.get(name, 0.0) for run in runs])) for name in names}
    return Found(layer, float(cell["value"]), float(cell["low"]), float(cell["high"]), shares, len(runs))


def over_runs(values: FloatArray) -> tuple[float, float, float]:
    """The mean of parts of a whole, and the ends of its 95% interval over runs."""
    mean, n = float(values.mean()), len(values)
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    return mean, max(mean - half, 0.0) if n > 1 else np.nan, min(mean + half, 1.0) if n > 1 else np.nan


def _depth(name: str, group: dict[tuple[str, int], Mapping[Any, Any]], by_head: bool, found: list[Found]) -> Depth:
    there = {layer for layer, _ in group} | ({layer for one in found for layer in one.shares} if not by_head else set())
    layers = [*natural(there - {END}), *([END] if END in there else [])]
    heads = sorted({head for _, head in group})
    arrays = {}
    for key in ("value", "low", "high"):
        rows = [
            [group[layer, head][key] if (layer, head) in group else np.nan for head in heads or [0]] for layer in layers
        ]
        arrays[key] = np.array(rows) if by_head else np.array(rows)[:, 0]
    return Depth(name, tuple(layers), tuple(heads) if by_head else (), **arrays, found=() if by_head else tuple(found))


def text(table: Table, frame: pd.DataFrame, width: int | None = None) -> str:
    """For the terminal: a line per layer, with a column per attention head where heads were read.

    Raises:
        InputError: No backbone was read at several layers.
    """
    import pandas as pd

    found = gather(table, frame)
    if not found:
        raise InputError("no backbone was read at several layers: run, for example, probe -m experiment=layerwise")
    parts: list[Any] = []
    room = width or columns()
    for depth in found:
        names = ["layer", *([f"head {head}" for head in depth.heads] or [one_line(table.metric)])]
        names += ["weight" if one.mixes else "chosen" for one in depth.found]
        lines = [
            [
                one_line(layer),
                *_shown(depth, i, table.measure.spelled),
                *(_share(one, layer) for one in depth.found),
            ]
            for i, layer in enumerate(depth.layers)
        ]
        lines += [
            [one_line(one.name), _interval(table.measure.spelled, one.value, one.low, one.high)]
            + [f"{one.n_runs} run{'s' * (one.n_runs > 1)}" if other is one else "" for other in depth.found]
            for one in depth.found
        ]
        parts.append(f"By layer, {title(table)}: {one_line(depth.name)}")
        parts += tables([Layout(pd.DataFrame(lines, columns=names), 1)], room)
    return drawn(*parts, width=room)


def _share(found: Found, layer: str) -> str:
    """How often a layer was chosen, or its weight in the mixture with the interval over seeds."""
    if layer not in found.shares:
        return ""
    value, low, high = found.shares[layer]
    if not found.mixes:
        return f"{round(value * found.n_runs)} of {found.n_runs}" if value else ""
    return f"{value:.3f}" if np.isnan(low) else _interval("{:.3f}".format, value, low, high)


def _interval(spelled: Callable[[float], str], value: float, low: float, high: float) -> str:
    return f"{spelled(value)} [{spelled(low)}, {spelled(high)}]"


def _shown(depth: Depth, place: int, spelled: Callable[[float], str]) -> list[str]:
    if not depth.heads:
        value, low, high = (float(array[place]) for array in (depth.value, depth.low, depth.high))
        return ["not run" if np.isnan(value) else _interval(spelled, value, low, high)]
    return ["missing" if np.isnan(value) else spelled(value) for value in depth.value[place]]
