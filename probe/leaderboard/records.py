"""Reads run folders into one row each; what cannot be counted is listed with its reason."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.targets import recorded
from probe.metrics.per_row import KEPT, STORED, Predictions, row_values

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
RESULT, PREDICTIONS, ERROR = "result.json", "predictions.safetensors", "error.txt"
PARTS = (PREDICTIONS, ERROR, "head.safetensors")
CODE = ("class", "recipe", "release", "code")
"""What a run says of the code of its head and of its backbone."""
NOT_SETTINGS = frozenset({"seed", "random_state", "device"})
"""Parameters of a head that make no other head of it."""
TOLERANCE = {"top1": 1e-6, "top5": 1e-6, "mean_per_class": 1e-6, "log_loss": 1e-3} | dict.fromkeys(STORED, 1e-6)
TOLERANCE |= dict.fromkeys(KEPT, 1e-4)
TOP_LEVEL = {"run": dict, "config": dict, "command": str, "labels": dict, "seed": int, "dataset": dict,
             "protocol": dict, "backbone": dict, "head": dict, "metrics": dict, "seconds": dict}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A folder that is not counted, and why."""

    folder: str
    reason: str


@dataclass
class Records:
    """Complete runs, one row each, and the folders that were left out.

    Attributes:
        frame: One row per run; columns are those of `record`, and `folder`, the run's path as it was reached.
        problems: Folders that look like runs and cannot be counted.
        notes: What a reader should know, such as copies that were counted once.
    """

    frame: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_result(folder: str | Path) -> dict[str, Any]:
    """The checked content of a run's `result.json`; `InputError` says what is wrong with it."""
    try:
        with open(os.path.join(folder, RESULT), "rb") as file:
            result = json.loads(file.read())
    except OSError as error:
        raise InputError(f"{RESULT} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{RESULT} is not JSON: half-written or edited") from error
    if not isinstance(result, dict) or "schema" not in result:
        raise InputError(f"{RESULT} was not written by probe: it has no schema number")
    if result["schema"] != SCHEMA:
        age = "older" if isinstance(result["schema"], int) and result["schema"] < SCHEMA else "unknown"
        raise InputError(f"schema {result['schema']!r} is {age}, this version reads {SCHEMA}: run it again")
    for key, kind in TOP_LEVEL.items():
        if not isinstance(result.get(key), kind):
            raise InputError(f"{RESULT} has no {key!r} of type {kind.__name__}: edited by hand?")
    return result


def read_predictions(folder: str | Path) -> Predictions:
    """The arrays of a run's `predictions.safetensors`; `logits` only where K <= 100."""
    from safetensors import SafetensorError, safe_open

    path = os.path.join(folder, PREDICTIONS)
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name != "logits"}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{PREDICTIONS} is missing") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{PREDICTIONS} is half-written or damaged") from error


def read_run(folder: str | Path) -> dict[str, Any]:
    """One run as a flat record, after checking that its metrics are those of its predictions."""
    result, predictions = read_result(folder), read_predictions(folder)
    try:
        record = flat_record(result)
        _check_predictions(record, predictions)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{RESULT} or {PREDICTIONS} lacks a field or holds a wrong type ({error})") from error
    correct = predictions["label_rank"] == 0 if recorded(result["dataset"]).exclusive else np.zeros(0, bool)
    return record | {"n_scored": len(predictions["row"]), "correct": np.packbits(correct).tobytes()}


def flat_record(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result that tables, filters and refusals look at, without nesting."""
    dataset, protocol, selection = result["dataset"], result["protocol"], result.get("selection")
    record: dict[str, Any] = {key: str(value) for key, value in result["labels"].items()}
    missing = {"backbone", "dataset", "head", "protocol"} - set(record)
    if missing:
        raise InputError(f"{RESULT} has no label for {', '.join(sorted(missing))}: edited by hand?")
    if not result["run"]["name"].endswith(result["run"]["digest"][:8]):
        raise InputError(f"run name {result['run']['name']!r} does not end in its digest: edited by hand?")
    codes = code_fields(result)
    record |= {
        "name": result["run"]["name"],
        "digest": result["run"]["digest"],
        "seed": result["seed"],
        "dataset.target": recorded(dataset).name,
        "dataset.fingerprint": dataset["fingerprint"],
        "dataset.test_rows": dataset["test_rows"],
        "dataset.classes": digest(list(dataset["class_names"])),
        "protocol.parameters": json.dumps([protocol["name"], protocol["parameters"]], sort_keys=True),
        "n_classes": len(dataset["class_names"]),
        "n_train": protocol["n_train"],
        "n_validation": protocol["n_validation"],
        "n_test": protocol["n_test"],
        "n_parameters": result["backbone"]["n_parameters"],
        "selection": selection["on"] if selection else "",
        "conformal_level": _finite("conformal_level", result.get("calibrate", {}).get("level", 0)),
        "skipped": result.get("skipped_rows", {}).get("test", 0),
        "divided": result.get("divided_groups") or 0,
        "leaked": result.get("leakage", {}).get("test", 0),
        "left_out": json.dumps([str(phrase) for phrase in result.get("left_out", ())]),
        "settings": digest([{k: v for k, v in result["head"]["parameters"].items() if k not in NOT_SETTINGS},
                            result["backbone"]["identity"], codes, result.get("metrics_by"),
                            result.get("extraction", {}).get("dtypes", {})]),
    } | codes  # fmt: skip
    record |= {f"seconds.{phase}": _finite(f"seconds.{phase}", value) for phase, value in result["seconds"].items()}
    for metric, interval in result["metrics"].items():
        record[f"metric.{metric}"] = _finite(f"metric {metric}", interval["value"])
    return record


def code_fields(result: Mapping[str, Any]) -> dict[str, str]:
    """Which code made a run: of head and backbone what `CODE` names, as far as the run says it.

    The protocols of this package are known by the rows that they draw, those from elsewhere by their code too.
    """
    parts = {f"{part}.{name}": str(result[part].get(name, "")) for part in ("head", "backbone") for name in CODE}
    return {name: value[:16] if name.endswith(".code") else value for name, value in parts.items()} | {
        "protocol.code": " ".join(foreign_code(result["protocol"])) or "own"
    }


def foreign_code(protocol: Mapping[str, Any]) -> list[str]:
    """Class and code of a protocol from elsewhere, and of those inside it."""
    inner = [word for facts in protocol.get("inner", {}).values() for word in foreign_code(facts)]
    return [f"{protocol['class']} {protocol['code'][:16]}", *inner] if "code" in protocol else inner


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}, expected a finite number: edited by hand?")
    return float(value)


def _check_predictions(record: Mapping[str, Any], predictions: Predictions) -> None:
    """Refuses metrics that the predictions do not give: somebody changed one of the two."""
    lengths = {len(array) for array in predictions.values()}
    if lengths not in ({record["n_test"]}, {record["n_test"] - record["skipped"]}) or lengths == {0}:
        raise InputError(
            f"{PREDICTIONS} has {' or '.join(map(str, sorted(lengths)))} rows, {RESULT} says {record['n_test']} with "
            f"{record['skipped']} skipped: files of two runs?"
        )
    labels = predictions["label"]
    if labels.min() < 0 or labels.max() >= record["n_classes"]:
        raise InputError(f"labels in {PREDICTIONS} leave 0..{record['n_classes'] - 1}")
    for metric, tolerance in TOLERANCE.items():
        recorded = record.get(f"metric.{metric}")
        if recorded is None or (metric in KEPT and f"metric.{metric}" not in predictions):
            continue
        values = row_values(metric, predictions)
        value = float(values.mean())
        if math.isnan(value):  # some rows are not looked at; telling so beforehand would take twice as long
            value = float(np.nanmean(values))
        if abs(value - recorded) > tolerance * max(1.0, abs(value)):
            raise InputError(
                f"{metric} is recorded as {recorded:.6g}, its predictions give {value:.6g}: edited by hand"
            )


def failure(folder: str | Path, names: set[str]) -> str:
    """Why a folder without `result.json` is no run."""
    if not names:
        return "the folder cannot be opened"
    if ERROR not in names:
        return f"half-written: it has no {RESULT} yet"
    with open(os.path.join(folder, ERROR), encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return f"failed: {lines[-1][:200]}" if lines else "failed"


def walk(root: str, is_known: Callable[[str], bool]) -> Iterator[tuple[str, set[str]]]:
    """Yields run folders under `root`, relative to it, with the names in them; passes over those that are known.

    A run folder holds a result, an error or a part of a run; nothing below it is read. Links are not followed:
    they may lead in circles, and a run that is linked to counts where it stands.
    """
    stack = ["."]
    while stack:
        relative = stack.pop()
        if is_known(relative):
            continue
        try:
            with os.scandir(os.path.join(root, relative)) as entries:
                found = {entry.name: entry for entry in entries}
        except OSError:
            yield relative, set()
            continue
        if RESULT in found or any(part in found for part in PARTS):
            yield relative, set(found)
            continue
        below = sorted(
            (n for n, e in found.items() if not n.startswith(".") and e.is_dir(follow_symlinks=False)), reverse=True
        )
        stack += [name if relative == "." else f"{relative}/{name}" for name in below]
