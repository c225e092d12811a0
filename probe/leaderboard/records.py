"""What tables know of a run: one flat row each; and of the folders that were left out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.targets import recorded
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Metric, described
from probe.results.schema import RESULT

if TYPE_CHECKING:
    import pandas as pd

METRIC = "metric."
"""Before the name of a metric, in the flat record of a run as in its predictions."""
Predictions = Mapping[str, NDArray[Any]]
CODE = ("class", "recipe", "release", "code")
"""What a run says of the code of its head and of its backbone."""
CODE_FIELDS = tuple((part, name, f"{part}.{name}") for part in ("head", "backbone") for name in CODE)
CONTROL_FIELDS = tuple((name, f"control.{name}") for name in ("head", "backbone", "architecture"))
NOT_SETTINGS = frozenset({"seed", "random_state", "device"})
"""Parameters of a head that make no other head of it."""
COUNTS = frozenset(
    {"seed", "fold", "n_folds", "n_classes", "n_train", "n_validation", "n_test", "n_parameters", "skipped", "leaked"}
)
LARGE = 2**62
FOLD, FOLDS = "fold", "n_folds"
"""Parameters of a protocol whose runs are parts of one: which part this is, and of how many."""


@dataclass(frozen=True)
class Problem:
    """A folder that is not counted, and why."""

    folder: str
    reason: str


@dataclass(frozen=True)
class Read:
    """What an index holds, all of it and nothing else.

    Attributes:
        folder: Where the index lies.
        digest: Of the index.
        frame: Its runs.
    """

    folder: Path
    digest: str
    frame: pd.DataFrame


@dataclass
class Records:
    """Complete runs, one row each, and the folders that were left out.

    Attributes:
        frame: One row per run; columns are those of `record`, and `folder`, the run's path as it was reached.
        problems: Folders that look like runs and cannot be counted.
        notes: What a reader should know, such as copies that were counted once.
        read: The index that the runs came from, where they are those of one.
    """

    frame: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    read: Read | None = None


def has_bits(metric: Metric) -> bool:
    """Whether the index keeps a bit per row for it: that which tables show first, where rows are right or wrong."""
    return metric.shown and metric.binary


def flat_record(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result that tables, filters and refusals look at, without nesting."""
    dataset, protocol, selection = result["dataset"], result["protocol"], result.get("selection")
    record: dict[str, Any] = {key: str(value) for key, value in result["labels"].items()}
    missing = {"backbone", "dataset", "head", "protocol"} - set(record)
    if missing:
        raise InputError(f"{RESULT} has no label for {', '.join(sorted(missing))}: edited by hand?")
    codes = code_fields(result)
    fold, n_folds = fold_of(protocol["parameters"]) or (0, 0)
    record["protocol"] = unfolded(record["protocol"]) if n_folds else record["protocol"]
    record |= {
        "name": result["run"]["name"],
        "digest": result["run"]["digest"],
        "seed": result["seed"],
        "fold": fold,
        "n_folds": n_folds,
        "dataset.target": recorded(dataset).name,
        "dataset.fingerprint": dataset["fingerprint"],
        "dataset.test_rows": dataset["test_rows"],
        "dataset.classes": digest(list(dataset["class_names"])),
        "protocol.parameters": json.dumps([protocol["name"], whole(protocol["parameters"])], sort_keys=True),
        "n_classes": len(dataset["class_names"]),
        "n_train": protocol["n_train"],
        "n_validation": protocol["n_validation"],
        "n_test": protocol["n_test"],
        "n_parameters": result["backbone"]["n_parameters"],
        "selection": selection["on"] if selection else "",
        "conformal_level": _finite("conformal_level", result.get("calibrate", {}).get("level", 0)),
        "own_metrics": json.dumps(result.get("own_metrics", {}), sort_keys=True),
        "layers": json.dumps(layer_shares(result)),
        "evaluation": evaluation_of(result),
        "skipped": result.get("skipped_rows", {}).get("test", 0),
        "divided": result.get("divided_groups") or 0,
        "leaked": result.get("leakage", {}).get("test", 0),
        "left_out": json.dumps([str(phrase) for phrase in result.get("left_out", ())]),
        "settings": digest([{k: v for k, v in result["head"]["parameters"].items() if k not in NOT_SETTINGS},
                            result["backbone"]["identity"], codes, result.get("metrics_by"),
                            result.get("extraction", {}).get("dtypes", {})]),
    } | codes | control_fields(result)  # fmt: skip
    record |= {f"seconds.{phase}": _finite(f"seconds.{phase}", value) for phase, value in result["seconds"].items()}
    for metric, interval in result["metrics"].items():
        record[f"{METRIC}{metric}"] = _finite(f"metric {metric}", interval["value"])
    for name, value in record.items():
        kind = type(value)
        if not (-LARGE < value < LARGE if kind is int else kind in (str, float) and name not in COUNTS):
            kinds = "int" if name in COUNTS else "str or float or int"
            raise InputError(f"{name} is {value!r}, expected {kinds}: edited by hand?")
    return record


def layer_shares(result: Mapping[str, Any]) -> dict[str, float]:
    """Of a run that found its layer the part of each: 1 of the one that was chosen, or weights; else nothing."""
    told = result.get("layers") or {}
    if "chosen" in told:
        return {name: float(name == told["chosen"]) for name in told["of"]}
    return {name: _finite(f"weight of {name}", value) for name, value in zip(
        told.get("of", ()), told.get("weights", ()), strict=True)}  # fmt: skip


def evaluation_of(result: Mapping[str, Any]) -> str:
    """How pixels were counted, in words that a filter takes; empty of targets that say nothing of pixels.

    Which classes were averaged follows from the test rows, of which a column has one set for each seed.
    """
    told = result.get("evaluation")
    if not told:
        return ""
    if "range" in told:
        low, high = ("none" if end is None else f"{end:g}" for end in told["range"])
        counted = f"range {low} to {high}"
    else:
        counted = f"ignored {' '.join(map(str, told['ignored_codes'])) or 'none'}"
    return f"size {told['size']}; {counted}; windows {told['windows'] or 'none'}"


def fold_of(parameters: Mapping[str, Any]) -> tuple[int, int] | None:
    """Which fold of how many a run is, by the parameters of its protocol or of one inside it; None where it is none."""
    if {FOLD, FOLDS} <= set(parameters):
        return parameters[FOLD], parameters[FOLDS]
    inner = [fold_of(value) for value in parameters.values() if isinstance(value, Mapping)]
    return next((found for found in inner if found), None)


def unfolded(label: str) -> str:
    """The name of a protocol without which fold it is: `cross_validation(n_folds=10)` of `…(n_folds=10, fold=1)`."""
    label = re.sub(rf"\b{FOLD}=\d+, |(, )?\b{FOLD}=\d+", "", label)
    return label.replace("()", "")


def whole(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a protocol without what tells its folds apart."""
    is_fold = {FOLD, FOLDS} <= set(parameters)
    return {
        name: whole(value) if isinstance(value, Mapping) else value
        for name, value in parameters.items()
        if not (is_fold and name == FOLD)
    }


def code_fields(result: Mapping[str, Any]) -> dict[str, str]:
    """Which code made a run: of head and backbone what `CODE` names, as far as the run says it.

    The protocols of this package are known by the rows that they draw, those from elsewhere by their code too.
    """
    told = {field: str(result[part].get(name, "")) for part, name, field in CODE_FIELDS}
    told |= {field: told[field][:16] for field in ("head.code", "backbone.code")}
    return told | {"protocol.code": " ".join(foreign_code(result["protocol"])) or "own"}


def control_fields(result: Mapping[str, Any]) -> dict[str, str]:
    """What a run is as a control, and by what it is one of another run; records of older runs do not say it."""
    told = result.get("control") or {}
    return {"control": str(told.get("kind", "")), **{field: str(told.get(name, "")) for name, field in CONTROL_FIELDS}}


def foreign_code(protocol: Mapping[str, Any]) -> list[str]:
    """Class and code of a protocol from elsewhere, and of those inside it."""
    inner = [word for facts in protocol.get("inner", {}).values() for word in foreign_code(facts)]
    return [f"{protocol['class']} {protocol['code'][:16]}", *inner] if "code" in protocol else inner


def _finite(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}, expected a finite number: edited by hand?")
    return float(value)


def metric_of(record: Mapping[str, Any], name: str) -> Metric:
    """What a run's metric is; of one that is not the package's own, what the run says of it."""
    return described(name, json.loads(record["own_metrics"]).get(name))


def gives(metric: Metric, predictions: Predictions) -> bool:
    """Whether predictions hold what each row adds to a metric, or what it follows from."""
    return f"{METRIC}{metric.name}" in predictions or bool(metric.needs and set(metric.needs) <= set(predictions))


def row_values(metric: Metric, predictions: Predictions, scores: Any) -> FloatArray:
    """(N,) values whose mean is the metric, in the order of the predictions; NaN where it does not look at the row.

    Args:
        metric: One that can rank.
        predictions: Of a run.
        scores: The same, restored.

    Raises:
        InputError: These predictions do not give the metric.
    """
    if not gives(metric, predictions):
        raise InputError(f"its predictions hold no values per row of {metric.name}: run it again with force=true")
    kept = predictions.get(f"{METRIC}{metric.name}")
    return metric.rows(scores) if kept is None else kept.astype(np.float64)


def metrics_in(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a flat record by name."""
    return {key.removeprefix(METRIC): value for key, value in record.items() if key.startswith(METRIC)}
