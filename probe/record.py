"""The run folder: how a finished run is written, named and recognised."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import __version__
from probe.base import IntArray

SCHEMA = 1
MAX_CLASSES_WITH_LOGITS = 100
PACKAGES = ("torch", "timm", "open_clip_torch", "numpy", "scikit-learn", "scipy")


def slug(*parts: str) -> str:
    """A folder name out of display names: letters, digits, dots and underscores, parts joined by a hyphen."""
    return "-".join(re.sub(r"[^A-Za-z0-9._=]+", "_", part).strip("_") for part in parts)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that compute."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "probe": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this package runs from, with `-dirty` behind it if files differ; else None."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def full_width(logits: NDArray[Any], classes: IntArray, n_classes: int) -> NDArray[np.float32]:
    """Logits over all classes of the dataset; a class that the head never saw gets -inf and is never predicted."""
    full = np.full((len(logits), n_classes), -np.inf, dtype=np.float32)
    full[:, classes] = logits
    return full


def prediction_arrays(
    logits: NDArray[np.float32], labels: IntArray, rows: IntArray, save_logits: bool | None
) -> dict[str, NDArray[Any]]:
    """What is kept per test row: enough for paired tests and calibration, and the logits where they are few.

    `label_rank` is 0 where the label has the highest logit; among equal logits the lower class code comes first.
    """
    from scipy.special import softmax

    probabilities = softmax(logits.astype(np.float64), axis=1)
    at_label = np.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits == at_label) & (np.arange(logits.shape[1]) < labels[:, None])
    predicted = logits.argmax(axis=1)
    arrays: dict[str, NDArray[Any]] = {
        "row": rows,
        "label": labels,
        "predicted": predicted.astype(np.int64),
        "predicted_probability": np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0].astype(np.float32),
        "label_probability": np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float32),
        "label_rank": ((logits > at_label) | before).sum(axis=1).astype(np.int64),
    }
    if save_logits or (save_logits is None and logits.shape[1] <= MAX_CLASSES_WITH_LOGITS):
        arrays["logits"] = logits
    return arrays


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a complete run folder; None where there is none of this schema."""
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return result if result.get("schema") == SCHEMA else None


def write_run(folder: Path, result: Mapping[str, Any], predictions: Mapping[str, NDArray[Any]], head: Any) -> None:
    """Writes a run folder all or nothing: into a neighbour first, then one rename."""
    from safetensors.numpy import save_file

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        save_file(
            {name: np.ascontiguousarray(a) for name, a in predictions.items()}, partial / "predictions.safetensors"
        )
        head.save(partial / "head.safetensors")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_error(folder: Path, text: str) -> None:
    """Leaves `error.txt` where the run would have stood; a complete run of the same name is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(text.rstrip() + "\n")


def compare(old_folder: Path, old: Mapping[str, Any], new_folder: Path, new: Mapping[str, Any]) -> list[str]:
    """What two runs of one record differ in: metrics and predictions, then what may explain it; empty if nothing."""
    lines = []
    for name, metric in old["metrics"].items():
        value = new["metrics"].get(name, {}).get("value")
        if value != metric["value"]:
            lines.append(f"{name}: was {metric['value']}, is {value}")
    files = [folder / "predictions.safetensors" for folder in (old_folder, new_folder)]
    if files[0].read_bytes() != files[1].read_bytes():
        lines.append("predictions.safetensors: other bytes")
    if lines:
        for name in ("version", "versions", "commit", "device", "dataset", "protocol", "backbone", "features"):
            if old.get(name) != new.get(name):
                lines.append(f"possible cause, {name}: was {old.get(name)}, is {new.get(name)}")
    return lines
