"""The leaderboard as one HTML file that needs no network: table, plots, and every run to look into."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.base import Dataset
from probe.core.escaping import html, one_line
from probe.leaderboard import layers, page_runs, samples
from probe.leaderboard.curves import sized_cells
from probe.leaderboard.export import title
from probe.leaderboard.pairwise import packed
from probe.leaderboard.seeds import FloatArray
from probe.leaderboard.select import as_dicts
from probe.leaderboard.table import Table
from probe.leaderboard.views import measure_facts, measures, plain_views, tables, view

if TYPE_CHECKING:
    import pandas as pd

N_KEPT = 60
"""The best rows, any two of which can be compared."""
MAX_READ = 4_000
"""Runs whose records and predictions are read, once for themselves and once for each metric beyond the first: about a
millisecond each. Of the others the page says what the table knows."""
MAX_PLAIN = 2_000_000
"""Characters of data that stand in the page as they are; more are compressed, which a browser undoes in a moment."""
COSTS = {"fit": "seconds.fit", "extract": "seconds.extract", "parameters": "n_parameters"}
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
SCRIPTS = (
    "base", "state", "filter", "table", "charts", "points", "plots", "drawings", "confusion", "numbers", "masks",
    "rows", "compare", "detail", "download", "start",
)  # fmt: skip
"""In the order in which they stand in the page; each uses those before it."""
DatasetOf = Callable[[Mapping[str, Any]], Dataset]
"""From the record of a run to its dataset, for the rows themselves; raises `ProbeError` where it cannot."""


def page(table: Table, frame: pd.DataFrame, dataset_of: DatasetOf | None = None, max_read: int = MAX_READ) -> str:
    """The whole file.

    Args:
        table: What is shown first.
        frame: The runs behind the table, as `read_folders` gives them.
        dataset_of: Gives the rows that runs got most confidently wrong, as pictures and texts; without it numbers.
        max_read: How many runs are read, and as many for metrics beyond the first.
    """
    web = resources.files("probe.leaderboard") / "web"
    found = page_data(table, frame, dataset_of, max_read)
    found["runs"] = page_runs.by_field(found["runs"])
    scripts = "\n".join((web / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    parts = {
        "POLICY": POLICY,
        "TITLE": html(title(table)),
        "STYLE": (web / "page.css").read_text("utf-8"),
        "DATA": encoded(found),
        "SCRIPT": f'"use strict";\n(async () => {{\n{scripts}\n}})();',
    }
    pieces = (web / "page.html").read_text("utf-8").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def encoded(data: Mapping[str, Any]) -> str:
    """Data as the page holds them: JSON, and where that is long a text of JSON that holds it compressed."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    if len(text) > MAX_PLAIN:
        return json.dumps(base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii"))
    # Inside a script element only `</` and `<!--` could end the data early; no `<` is left in it.
    return text.replace("<", "\\u003c")


def page_data(
    table: Table, frame: pd.DataFrame, dataset_of: DatasetOf | None = None, max_read: int = MAX_READ
) -> dict[str, Any]:
    """All that the page shows, as plain JSON."""
    found, without = tables(table, frame, max_read)
    wanted = page_runs.fields(frame, [one.metric for one in found], COSTS.values())
    by_name = {run["name"]: run for run in as_dicts(frame[wanted])}
    lines = {line["row"]: line for other in found for line in other.ranking.to_dict("records")}
    places = {row: place for place, row in enumerate(lines)}
    cells = _shared_cells(found, frame)
    order = [cell for row in lines for cell in cells[row].values()]
    runs = [(by_name[name], cell["column"]) for cell in order for name in cell["runs"]]
    of_cell = _numbered(order)
    told, classes = page_runs.gather(runs, [own[0] for own in of_cell], max_read)
    kept = list(lines)[:N_KEPT]
    first = [cell["runs"][0] for row in kept for cell in cells[row].values()]
    numbers = iter(of_cell)
    rows = [
        {
            "fields": [one_line(lines[row][field]) for field in table.rows],
            "cells": {
                one_line(column): _place(cell, [by_name[name] for name in cell["runs"]], next(numbers))
                for column, cell in cells[row].items()
            },
        }
        for row in lines
    ]
    shown = [(run, place) for place, (run, _) in enumerate(runs) if told[place].get("detail") is not None]
    faults = [f"{one_line(run['folder'])} has no diagrams here: {one['fault']}"
              for (run, _), one in zip(runs, told, strict=True) if one.get("fault")]  # fmt: skip
    looked = samples.gather([(run, told[place]) for run, place in shown], dataset_of)
    return {
        "fields": [one_line(table.named(field)) for field in table.rows],
        "rows": rows,
        "views": [*(view(other, places, kept) for other in found), *plain_views(frame, found, cells)],
        "runs": told,
        "classes": classes,
        "measures": {name: measure_facts(one) for name, one in measures(frame).items()},
        "labels": {old: one_line(new) for old, new in table.labels.items()},
        **packed(frame, first),
        "samples": looked.samples,
        "layers": _layers(table, frame),
        "notes": [*without, *_left_out(len(runs), max_read, dataset_of), *looked.notes, *faults],
        "problems": [[one_line(problem.folder), one_line(problem.reason)] for problem in table.problems],
    }


def _left_out(n_runs: int, max_read: int, dataset_of: DatasetOf | None) -> list[str]:
    """What the page was not to look at."""
    found = []
    if n_runs > max_read:
        found.append(f"Of {n_runs} runs {max_read} were read: the others have no command and no drawings here.")
    if dataset_of is None:
        found.append("Rows of datasets stand here by their numbers: probe leaderboard FOLDER --html FILE shows them.")
    return found


def _shared_cells(found: list[Table], frame: pd.DataFrame) -> dict[str, dict[str, dict[Any, Any]]]:
    """Row -> column -> what is the same of a cell by any metric; the table that comes first says it."""
    cells: dict[str, dict[str, dict[Any, Any]]] = {}
    for table in found:
        for cell in as_dicts(sized_cells(table, frame)):
            cells.setdefault(cell["row"], {}).setdefault(cell["column"], cell)
    return cells


def _numbered(cells: list[dict[Any, Any]]) -> list[list[int]]:
    """Of each cell the places of its runs, when those of all cells stand one after the other."""
    ends = np.cumsum([0, *(len(cell["runs"]) for cell in cells)])
    return [list(range(start, stop)) for start, stop in zip(ends.tolist(), ends[1:].tolist(), strict=False)]


def _place(cell: Mapping[Any, Any], runs: list[Any], numbers: list[int]) -> dict[str, Any]:
    # A run that does not say what it cost has nan here, once it stands in one frame with others.
    spent = {key: [run.get(field, 0.0) for run in runs] for key, field in COSTS.items()}
    costs = {key: page_runs.digits(sum(x for x in of_runs if x == x) / len(runs)) for key, of_runs in spent.items()}
    return costs | {"n_rows": cell["n_rows"], "data": one_line(cell["group"]), "runs": numbers}


def _layers(table: Table, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores over depth, where a backbone was read at several layers, and which of them runs chose."""
    return [
        {
            "name": one_line(depth.name),
            "layers": list(map(one_line, depth.layers)),
            "heads": list(depth.heads),
            **{key: _plain(getattr(depth, key)) for key in ("value", "low", "high")},
            "chosen": [
                {
                    "name": one_line(one.name),
                    "places": [i for i, layer in enumerate(depth.layers) if one.shares.get(layer, (0.0,))[0] > 0],
                    **{key: getattr(one, key) for key in ("value", "low", "high")},
                }
                for one in depth.found
                if not one.mixes
            ],
        }
        for depth in layers.gather(table, frame)
        if np.isfinite(depth.value).any()
    ]


def _plain(values: FloatArray) -> list[Any]:
    """As JSON, with None for what is missing."""
    whole = values.tolist()
    return [
        [None if x != x else x for x in one] if isinstance(one, list) else None if one != one else one for one in whole
    ]
