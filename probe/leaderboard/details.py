"""What the page draws of the test rows of a run, by what a label is; nothing where it has no drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probe.core.escaping import one_line
from probe.core.targets import recorded
from probe.core.targets.number import columns_of
from probe.metrics.shared.bins import N_BINS, equal_width_bins
from probe.metrics.shared.orders import risk_coverage

MAX_CONFUSED = 900
"""Entries of a confusion matrix, the largest: those of 30 classes are whole."""
MAX_POINTS = 60
MAX_ROWS = 300
MAX_COLUMNS = 6
MAX_WRONG = 12
"""Rows that a run got most confidently wrong."""
MAX_SEARCHED = 400
ENDS = ("interval_low", "interval_high")


def detail(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    """The drawing of a run, under `kind` the target that it is of; None where nothing is drawn, or predicted.

    Args:
        predictions: Of the run.
        dataset: What the run says of its dataset.
    """
    name = recorded(dataset).name
    draws = {"one_class": of_classes, "number": of_numbers, "mask": of_masks, "number_map": of_number_maps}
    draw = draws.get(name) if "predicted" in predictions else None
    return {"kind": name, **draw(predictions, dataset)} if draw else None


def of_numbers(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """True and predicted numbers of some rows of each column, evenly spaced by the true ones, and the worst errors.

    Where the run has finite intervals, `low` and `high` are their ends.
    """
    units = dataset.get("units") or [""] * len(dataset["class_names"])
    columns, wrong = [], []
    for place, unit in enumerate(units[:MAX_COLUMNS]):
        true, predicted = (columns_of(predictions[key])[:, place] for key in ("label", "predicted"))
        order = np.argsort(true, kind="stable")
        shown = order[np.unique(np.linspace(0, len(order) - 1, MAX_ROWS).astype(int))]
        column = {"unit": unit, "true": _short(true[shown]), "predicted": _short(predicted[shown])}
        ends = [columns_of(predictions[end])[shown, place] for end in ENDS if end in predictions]
        if ends and np.isfinite(ends).all():
            column["low"], column["high"] = map(_short, ends)
        columns.append(column)
        if place == 0:
            worst = np.argsort(-np.abs(true - predicted), kind="stable")[:MAX_WRONG]
            wrong = [[int(predictions["row"][i]), *_short(np.array([true[i], predicted[i]]))] for i in worst]
    return {"columns": columns, "rows": len(predictions["label"]), "wrong": wrong}


def of_number_maps(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The means of images as numbers, drawn as such."""
    means = {**predictions, **{key: predictions[key][:, 0] for key in ("label", "predicted")}}
    return {"kind": "number", **of_numbers(means, dataset)}


def of_classes(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Reliability by bin, risk by coverage, accuracy by class, confusions as (label, predicted, count), worst rows.

    `wrong` holds the rows of a wrong class that the head was surest of, the surest first: number, label, predicted
    class, and its probability.
    """
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
    # Those that are right stand in `right` too; where not all entries fit, the confusions are what matters.
    largest = np.sort(np.lexsort((-counts, pairs // n_classes == pairs % n_classes))[:MAX_CONFUSED])
    sure = np.argsort(-predictions["predicted_log_odds"], kind="stable")
    return {
        "bins": size[filled].tolist(),
        "confidence": _means(bin_of, confidence, size)[filled].round(4).tolist(),
        "accuracy": _means(bin_of, correct, size)[filled].round(4).tolist(),
        "coverage": coverage[shown].round(4).tolist(),
        "risk": risk[shown].round(4).tolist(),
        "n": rows.tolist(),
        "right": np.bincount(labels, weights=correct, minlength=n_classes).astype(int).tolist(),
        "confusion": np.stack([pairs // n_classes, pairs % n_classes, counts], axis=1)[largest].tolist(),
        "cut": len(counts) > MAX_CONFUSED,
        "wrong": [
            [int(predictions["row"][i]), int(labels[i]), int(predicted[i]), round(float(confidence[i]), 4)]
            for i in sure[~correct[sure]][:MAX_WRONG]
        ],
    }


def of_masks(predictions: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Pixels of each class, those that are right, and confusions as (class, predicted, pixels)."""
    n_classes = len(dataset["class_names"])
    label, predicted, pixels = predictions["confusion"].reshape(-1, 3).T.astype(np.int64)
    cells = np.bincount(label * n_classes + predicted, weights=pixels, minlength=n_classes**2).reshape(n_classes, -1)
    filled = np.flatnonzero(cells)
    largest = np.sort(
        filled[np.lexsort((-cells.flat[filled], filled // n_classes == filled % n_classes))[:MAX_CONFUSED]]
    )
    found = np.stack([largest // n_classes, largest % n_classes, cells.flat[largest]], axis=1)
    return {
        "n": cells.sum(axis=1).astype(int).tolist(),
        "right": cells.diagonal().astype(int).tolist(),
        "confusion": found.astype(int).tolist(),
        "cut": len(filled) > MAX_CONFUSED,
    }


def by_class(classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """IoU of each class with its interval, None where the test masks do not show it, and its share in training."""
    return {
        "iou": [[round(c["iou"][key], 5) for key in ("value", "low", "high")] if "iou" in c else None for c in classes],
        "share": [round(c["train_share"], 6) for c in classes],
    }


def by_group(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of each group of test rows its name, how many there are, and of each column MAE and its ends where it has any."""
    keys = ("value", "low", "high")
    return {
        "n_groups": told["n_groups"],
        "groups": [
            [one_line(g["name"]), g["test_rows"], [_short([mae[k] for k in keys if k in mae]) for mae in g["mae"]]]
            for g in told["of"]
        ],
    }


def searched(selection: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a head chose among, as columns: names, and a list of values for each candidate, its score among them."""
    if not selection or not isinstance(selection.get("searched"), list):
        return None
    candidates = [one for one in selection["searched"] if isinstance(one, Mapping)][:MAX_SEARCHED]
    names = list(dict.fromkeys(name for one in candidates for name in one))
    return {"names": names, "values": [[_plain(one.get(name)) for name in names] for one in candidates]}


def _plain(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _short(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _means(places: Any, values: Any, sizes: Any) -> Any:
    return np.bincount(places, weights=values, minlength=len(sizes)) / np.maximum(sizes, 1)
