"""What the page draws of the test rows of a run, by what a label is; nothing where it has no drawing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from probe.core.targets import recorded
from probe.core.targets.number import columns_of
from probe.metrics.shared.bins import N_BINS, equal_width_bins
from probe.metrics.shared.orders import risk_coverage

MAX_CONFUSIONS = 3000
MAX_POINTS = 60
MAX_ROWS = 500
MAX_COLUMNS = 6


def detail(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    """The drawing of a run, under `kind` the target that it is of; None where nothing is drawn, or predicted.

    Args:
        predictions: Of the run.
        dataset: What the run says of its dataset.
    """
    name = recorded(dataset).name
    draw = {"one_class": of_classes, "number": of_numbers}.get(name) if "predicted" in predictions else None
    return {"kind": name, **draw(predictions, dataset)} if draw else None


def of_numbers(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """True and predicted numbers of some rows, evenly spaced by the true ones, of each column."""
    units = dataset.get("units") or [""] * len(dataset["class_names"])
    columns = []
    for place, unit in enumerate(units[:MAX_COLUMNS]):
        true, predicted = (columns_of(predictions[key])[:, place] for key in ("label", "predicted"))
        order = np.argsort(true, kind="stable")
        shown = order[np.unique(np.linspace(0, len(order) - 1, MAX_ROWS).astype(int))]
        columns.append({"unit": unit, "true": true[shown].tolist(), "predicted": predicted[shown].tolist()})
    return {"columns": columns, "rows": len(predictions["label"])}


def of_classes(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Reliability by bin, risk by coverage, accuracy by class, and confusions as (label, predicted, count)."""
    n_classes = len(dataset["class_names"])
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
