"""The runs behind the page: what each says of itself, and drawings of as many as fit."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.images import read_image
from probe.leaderboard.details import by_class, by_group, detail, searched
from probe.leaderboard.records import METRIC
from probe.results.reader import read_file, read_predictions, read_result
from probe.results.schema import HEAD, OVERLAYS

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 2_500_000
"""Of drawings on the page; runs that do not fit, the last of the ranking, keep their metrics and their command."""
WIDTHS = ("n_features_in_", "widths_")
FIELDS = (
    "name", "folder", "dataset", "seed", "fold", "n_folds", "dataset.classes", "dataset.test_rows",
    "dataset.fingerprint",
)  # fmt: skip
Run = Mapping[Any, Any]


def fields(frame: pd.DataFrame, metrics: Sequence[str], costs: Iterable[str]) -> list[str]:
    """What the page has to know of each run of a frame, those that are not read included."""
    wanted = {*FIELDS, *costs, *(METRIC + name for name in metrics)}
    return [column for column in frame.columns if column in wanted]


def gather(
    runs: Sequence[tuple[Run, str]], first: Sequence[int], max_read: int
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Runs to look into, and the class names that their drawings use, by digest.

    Args:
        runs: Flat records, and the column that each stands in.
        first: Places of those whose drawings come first.
        max_read: Runs that are read, these first.
    """
    leading = set(first)
    order = [*first, *(i for i in range(len(runs)) if i not in leading)]
    metrics = {key: key.removeprefix(METRIC) for key in (runs[0][0] if runs else ()) if key.startswith(METRIC)}
    columns = {column: one_line(column) for _, column in runs}
    found = [_known(run, columns[column], metrics) for run, column in runs]
    results: dict[int, dict[str, Any] | None] = {}
    for place in order[:max_read]:
        found[place], results[place] = _facts(*runs[place])
    classes: dict[str, list[str]] = {}
    used = 0
    for place in order:
        result, (run, _) = results.get(place), runs[place]
        if result is None or used > MAX_BYTES:
            continue
        try:
            drawing = _drawing(run, result)
            size = len(json.dumps(drawing, allow_nan=False, separators=(",", ":")))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            found[place] |= {"fault": _fault(error)}
            continue
        used += size
        if used <= MAX_BYTES:
            found[place] |= drawing
            classes.setdefault(run["dataset.classes"], [one_line(name) for name in result["dataset"]["class_names"]])
    return found, classes


def _known(run: Run, column: str, metrics: Mapping[str, str]) -> dict[str, Any]:
    """What the table knows of a run whose record is not read; `metrics` are the fields and names of all."""
    told = {name: [digits(run[field])] for field, name in metrics.items() if run[field] == run[field]}
    known = {"name": one_line(run["name"]), "column": column, "seed": run["seed"], "metrics": told}
    return known | ({"fold": run["fold"]} if run["n_folds"] else {})


def by_field(runs: list[dict[str, Any]]) -> list[dict[str, Any]] | dict[str, Any]:
    """The runs; where some were not read, what is known of all of them field by field, so that each is named once."""
    read = {place: run for place, run in enumerate(runs) if "command" in run}
    if len(read) == len(runs):
        return runs
    columns = {column: place for place, column in enumerate(dict.fromkeys(run["column"] for run in runs))}
    metrics = dict.fromkeys(name for place, run in enumerate(runs) if place not in read for name in run["metrics"])
    return {
        "read": read,
        "columns": list(columns),
        "name": [run["name"] for run in runs],
        "column": [columns[run["column"]] for run in runs],
        "seed": [run["seed"] for run in runs],
        "fold": [run.get("fold") for run in runs],
        "metrics": {name: [run["metrics"].get(name, [None])[0] for run in runs] for name in metrics},
    }


def _facts(run: Run, column: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A run without its drawings; of one whose files have changed or gone since, the name and the fault."""
    facts = {
        "name": one_line(run["name"]), "column": one_line(column), "seed": run["seed"], "command": "", "metrics": {},
        "seconds": {}, "chosen": None, "on": "", "commit": "", "created": "", "device": "", "n": [], "width": None,
        "protocol": "", "fold": None, "classes": run["dataset.classes"], "test": run["dataset.test_rows"],
        "data": run["dataset.fingerprint"], "detail": None, "searched": None, "collapse": None, "fault": "",
    }  # fmt: skip
    try:
        result = read_result(run["folder"])
        found = _told(run, result)
        json.dumps(found, allow_nan=False)
        return facts | found, result
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return facts | {"fault": _fault(error)}, None


def _fault(error: Exception) -> str:
    return one_line(error if isinstance(error, InputError) else f"its record is odd ({error!r})")


def _told(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    selection, protocol = result.get("selection") or {}, result["protocol"]
    return {
        "command": one_line(result["command"]),
        "seconds": {phase: digits(spent) for phase, spent in result["seconds"].items()},
        "metrics": {
            name: [digits(told["value"]), *(end(told.get(key, told["value"])) for key in ("low", "high"))]
            for name, told in result["metrics"].items()
        },
        "chosen": selection.get("chosen"),
        "on": one_line(selection.get("on", "")),
        "commit": one_line(result.get("commit") or ""),
        "created": one_line(result["run"].get("created", "")),
        "device": one_line(result.get("device", "")),
        "n": [protocol["n_train"], protocol["n_validation"], protocol["n_test"]],
        "protocol": one_line(protocol["name"] + "".join(f", {k} {v}" for k, v in protocol["parameters"].items())),
        "fold": protocol["parameters"].get("fold"),
        "width": width_of(run["folder"]),
        "collapse": _collapse(result.get("collapse")),
    }


def _collapse(told: Mapping[str, Any] | None) -> dict[str, dict[str, float]] | None:
    """NC1 to NC4 of the training and of the test rows, where the run measured them."""
    parts = {part: values for part, values in (told or {}).items() if isinstance(values, Mapping)}
    return {part: {name: digits(value) for name, value in v.items()} for part, v in parts.items()} or None


def _drawing(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    if digest(list(result["dataset"]["class_names"])) != run["dataset.classes"]:
        raise InputError("its classes are others than when the table was made: write the page again")
    drawn = detail(read_predictions(run["folder"], result), result["dataset"])
    if drawn is not None and result.get("classes"):
        drawn |= by_class(result["classes"])
    if drawn is not None and result.get("by_group"):
        drawn |= by_group(result["by_group"])
    if drawn is not None and OVERLAYS in result["files"]:
        drawn["overlays"] = embedded(read_image(read_file(run["folder"], OVERLAYS, result), OVERLAYS))
    return {"detail": drawn, "searched": searched(result.get("selection"))}


def embedded(picture: Image.Image) -> str:
    """The address that holds a picture."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "webp", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def width_of(folder: str) -> int | None:
    """How many features a row has, as the header of the saved head says; None where it does not."""
    try:
        with open(os.path.join(folder, HEAD), "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, 2**22)))
        told = json.loads(header["__metadata__"]["attributes"])
        found = next(told[name] for name in WIDTHS if name in told)
        width = sum(found.values()) if isinstance(found, dict) else found
        return width if type(width) is int else None
    except (OSError, ValueError, KeyError, TypeError, StopIteration, AttributeError):
        return None


def digits(value: float) -> float:
    """As many of a number as a reader can use."""
    return float(f"{value:.6g}")


def end(value: float) -> float | None:
    """The same of an end of an interval; None where it is open."""
    return digits(value) if math.isfinite(value) else None
