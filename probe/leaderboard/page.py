"""The leaderboard as one HTML file that needs no network: table, plots, and every run to look into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.escaping import html, one_line
from probe.core.targets import recorded
from probe.leaderboard.curves import sized_cells
from probe.leaderboard.export import title
from probe.leaderboard.table import Table
from probe.metrics.shared.bins import N_BINS, equal_width_bins
from probe.metrics.shared.orders import risk_coverage
from probe.results.reader import read_predictions, read_result

if TYPE_CHECKING:
    import pandas as pd

MAX_RUNS = 500
"""Runs beyond this many, in the order of the table, keep their command and lose their diagrams."""
MAX_CONFUSIONS = 3000
MAX_POINTS = 60
COSTS = {"fit": "seconds.fit", "extract": "seconds.extract", "parameters": "n_parameters"}
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def page(table: Table, frame: pd.DataFrame) -> str:
    """The whole file. `frame` holds the runs behind the table, as `read_folders` gives them."""
    from plotly.offline import get_plotlyjs

    web = resources.files("probe.leaderboard") / "web"
    data = json.dumps(page_data(table, frame), separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    parts = {
        "POLICY": POLICY,
        "TITLE": html(title(table)),
        "STYLE": (web / "page.css").read_text("utf-8"),
        # Inside a script element only `</` and `<!--` could end the data early; no `<` is left in it.
        "DATA": data.replace("<", "\\u003c"),
        "PLOTLY": get_plotlyjs(),
        "SCRIPT": (web / "page.js").read_text("utf-8"),
    }
    pieces = (web / "page.html").read_text("utf-8").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def page_data(table: Table, frame: pd.DataFrame) -> dict[str, Any]:
    """All that the page shows, as plain JSON."""
    by_name = {run["name"]: run for run in frame.drop(columns="correct").to_dict("records")}
    cells = {(cell["row"], cell["column"]): cell for cell in sized_cells(table, frame).to_dict("records")}
    rows: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    classes: dict[str, list[str]] = {}
    faults: list[str] = []
    for line in table.ranking.to_dict("records"):
        shown = {c: cells[line["row"], c] for c in table.column_names if (line["row"], c) in cells}
        places = []
        for column, cell in shown.items():
            for name in cell["runs"]:
                places.append(len(runs))
                runs.append(_run(by_name[name], column, len(runs) < MAX_RUNS, classes))
                if runs[-1]["fault"]:
                    faults.append(f"{one_line(by_name[name]['folder'])} has no diagrams here: {runs[-1]['fault']}")
        rows.append(
            {
                "fields": [one_line(line[field]) for field in table.rows],
                "rank": None if np.isnan(line["rank"]) else [line["rank"], line["rank_low"], line["rank_high"]],
                "note": line["note"],
                "cells": {column: _cell(cell, [by_name[n] for n in cell["runs"]]) for column, cell in shown.items()},
                "runs": places,
            }
        )
    return {
        "title": title(table),
        "metric": table.metric,
        "percent": table.measure.percent,
        "better": table.measure.better,
        "fields": list(map(one_line, table.rows)),
        "columns": table.column_names,
        "rows": rows,
        "runs": runs,
        "classes": classes,
        "notes": [*map(one_line, table.notes), *faults],
        "problems": [[one_line(problem.folder), one_line(problem.reason)] for problem in table.problems],
    }


def _cell(cell: Mapping[Any, Any], runs: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    # A run that does not say what it cost has nan here, once it stands in one frame with others.
    costs = {key: float(np.nan_to_num([run.get(field, 0.0) for run in runs]).mean()) for key, field in COSTS.items()}
    kept = {key: cell[key] for key in ("value", "low", "high", "badness", "mark", "n_seeds", "selected_on")}
    return kept | costs | {"n_rows": cell["n_rows"], "data": one_line(cell["group"])}


def _run(run: Mapping[Any, Any], column: str, whole: bool, classes: dict[str, list[str]]) -> dict[str, Any]:
    """A run to look into; of one whose files have changed or gone since the table was made, the name and the fault."""
    facts = {
        "name": one_line(run["name"]), "column": column, "seed": run["seed"], "command": "", "metrics": {},
        "seconds": {}, "chosen": None, "commit": "", "device": "", "classes": run["dataset.classes"], "detail": None,
        "fault": "",
    }  # fmt: skip
    try:
        found = _record(run, whole, classes)
        json.dumps(found, allow_nan=False)
        return facts | found
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return facts | {"fault": one_line(error if isinstance(error, InputError) else f"its record is odd ({error!r})")}


def _record(run: Mapping[Any, Any], whole: bool, classes: dict[str, list[str]]) -> dict[str, Any]:
    result = read_result(run["folder"])
    facts = {
        "command": one_line(result["command"]), "seconds": result["seconds"],
        "metrics": {key: value["value"] for key, value in result["metrics"].items()},
        "chosen": (result.get("selection") or {}).get("chosen"),
        "commit": one_line(result.get("commit", "")), "device": one_line(result.get("device", "")),
    }  # fmt: skip
    if whole:
        names = result["dataset"]["class_names"]
        if digest(list(names)) != run["dataset.classes"]:
            raise InputError("its classes are others than when the table was made: write the page again")
        if recorded(result["dataset"]).exclusive:  # all of these diagrams are of classes that are predicted
            predictions = read_predictions(run["folder"], result)
            facts["detail"] = _detail(predictions, run["n_classes"]) if "predicted" in predictions else None
        classes.setdefault(run["dataset.classes"], [one_line(name) for name in names])
    return facts


def _detail(predictions: Mapping[str, Any], n_classes: int) -> dict[str, Any]:
    """Reliability by bin, risk by coverage, accuracy by class, and confusions as (label, predicted, count)."""
    labels, predicted = predictions["label"], predictions["predicted"]
    confidence = predictions["predicted_probability"].astype(np.float64)
    correct = predictions["label_rank"] == 0
    bin_of = equal_width_bins(confidence)
    size = np.bincount(bin_of, minlength=N_BINS)
    filled = size > 0
    rows = np.bincount(labels, minlength=n_classes)
    pairs, counts = np.unique(labels * n_classes + predicted, return_counts=True)
    coverage, risk = risk_coverage(predictions["predicted_log_odds"], correct)
    shown = np.unique(np.linspace(0, len(coverage) - 1, MAX_POINTS).astype(int))
    largest = np.sort(np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS])
    return {
        "bins": size[filled].tolist(),
        "confidence": _means(bin_of, confidence, size)[filled].round(4).tolist(),
        "accuracy": _means(bin_of, correct, size)[filled].round(4).tolist(),
        "coverage": coverage[shown].round(4).tolist(),
        "risk": risk[shown].round(4).tolist(),
        "n": rows.tolist(),
        "right": np.bincount(labels, weights=correct, minlength=n_classes).astype(int).tolist(),
        "confusion": np.stack([pairs // n_classes, pairs % n_classes, counts], axis=1)[largest].tolist(),
        "cut": len(counts) > MAX_CONFUSIONS,
    }


def _means(places: Any, values: Any, sizes: Any) -> Any:
    return np.bincount(places, weights=values, minlength=len(sizes)) / np.maximum(sizes, 1)
