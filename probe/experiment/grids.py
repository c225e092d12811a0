"""Grids of probes: which features of a backbone are its cells, where each stands, and what each is worth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from probe.core.abilities import Tapped
from probe.core.errors import DoesNotFit
from probe.core.kinds import DEFAULT_REDUCTION
from probe.core.targets import Target
from probe.core.writing import write_file
from probe.experiment.reading import BY_HEAD, ReadRows
from probe.experiment.request import Run
from probe.heads.shared.abilities import ComparesCells
from probe.metrics import evaluate
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import score
from probe.results.grid import BY_HEAD as BY_ATTENTION_HEAD
from probe.results.grid import LATEX, PICTURE, TABLE, Grid

CELLS = "cells"
METRICS = {
    "one_class": ("top1", "auroc", "recall_at_1_fpr"),
    "labels": ("mAP", "micro_f1", "macro_f1"),
    "number": ("r2", "mae", "spearman"),
}
"""Of each cell, by what a label is; the first is drawn."""
ENTRY = re.compile(r"(.+)\.(\d+)")


def with_cells(request: Run) -> Run:
    """The request with the cells of its grid named one by one: those that it lists, else all tapped layers.

    Raises:
        DoesNotFit: The backbone taps no layer, or they differ in width.
    """
    if CELLS not in request.head.consumes:
        return request
    backbone = request.backbone
    shapes = backbone.shapes if isinstance(backbone, Tapped) else {}
    asked = request.reads.get(CELLS) or (list(backbone.taps) if isinstance(backbone, Tapped) else [])
    cells = list(_one_by_one([asked] if isinstance(asked, str) else asked, shapes))
    if not cells:
        raise DoesNotFit(
            f"head grid compares layers, backbone {backbone.name} taps none: set backbone.taps=['blocks.*:mean'] of a "
            "transformer, or to layers by their names"
        )
    widths = {cell: shapes[kind][-1] for cell in cells if (kind := _kind_of(cell)) in shapes}
    if len(set(widths.values())) > 1:
        first = next(iter(widths))
        other = next(cell for cell in widths if widths[cell] != widths[first])
        raise DoesNotFit(
            f"head grid compares features of one width, {first} of backbone {backbone.name} has {widths[first]} "
            f"numbers and {other} has {widths[other]}: list layers of one width in reads.cells, or compare them by "
            "experiment=layerwise"
        )
    return replace(request, reads={**request.reads, CELLS: cells})


def _one_by_one(kinds: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """The cells of some kinds: a kind of one vector per attention head is as many as there are heads."""
    for kind in kinds:
        shape = shapes.get(kind, ())
        yield from [f"{kind}.{i}" for i in range(shape[0])] if len(shape) == 2 and BY_HEAD.search(kind) else [kind]


def _kind_of(cell: str) -> str:
    found = ENTRY.fullmatch(cell)
    return found[1] if found and BY_HEAD.search(found[1]) else cell


def placed(cells: Sequence[str]) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """What the two axes are, and row and column of each cell: layer and position, or layer and attention head."""
    by_head = all(_kind_of(cell) != cell for cell in cells)
    if not by_head:
        parts = [cell.partition(":") for cell in cells]
        return ("layer", "position"), [(layer, reading or DEFAULT_REDUCTION) for layer, _, reading in parts]
    kinds = [_kind_of(cell) for cell in cells]
    readings = {kind.partition(":")[2] for kind in kinds}
    rows = [kind.partition(":")[0] if len(readings) == 1 else kind for kind in kinds]
    return ("layer", BY_ATTENTION_HEAD), [(row, cell.rpartition(".")[2]) for row, cell in zip(rows, cells, strict=True)]


def measured_cells(head: ComparesCells, rows: ReadRows, target: Target, n_classes: int) -> dict[str, Any]:
    """What the record says of a grid: every cell on the test rows, and which was chosen, on other rows."""
    metrics = [known()[name] for name in METRICS[target.name]]
    axes, places = placed(head.names_)
    scores = getattr(head, "cell_scores_", None)
    cells = []
    for cell, (name, (row, column)) in enumerate(zip(head.names_, places, strict=True)):
        logits = target.outputs(head.of_cell(cell), rows.test.X, n_classes)
        found = evaluate.measure({"rows": score(logits, rows.test.y, target.name)}, metrics)
        told = {"cell": name, "row": row, "column": column, "C": float(head.cell_Cs_[cell])}
        told |= {} if scores is None else {"score": float(scores[cell])}
        cells.append({**told, "metrics": {key: vars(value) for key, value in found.metrics.items()}})
    on = getattr(head, "selection_", {}).get("on", "nothing: the first")
    return {
        "axes": list(axes),
        "metric": METRICS[target.name][0],
        "percent": [metric.name for metric in metrics if metric.percent],
        "chosen": {"cell": head.names_[head.cell_], "on": on, "n_cells": len(cells)},
        "cells": cells,
    }


def write_grid(folder: Path, record: Mapping[str, Any]) -> None:
    """The table and the heat map of a grid, into the folder of its run."""
    grid = Grid.of(record)
    write_file(folder / TABLE, grid.csv())
    write_file(folder / LATEX, grid.latex())
    write_file(folder / PICTURE, lambda path: grid.figure().savefig(path, format="png", dpi=150))
