"""Two runs of one record side by side: what came out differently, and what may explain it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.core import tensors
from probe.core.errors import InputError
from probe.results.schema import CALIBRATED, HEAD, PREDICTIONS, VALIDATION

# What a run found, and what may explain that it finds something else.
RESULTS = ("metrics", "selection", "tasks")
CAUSES = (
    "version",
    "versions",
    "commit",
    "device",
    "dataset",
    "protocol",
    "backbone",
    "head",
    "extraction",
    "texts",
    "features",
)


def compare(old_folder: Path, old: Mapping[str, Any], new_folder: Path, new: Mapping[str, Any]) -> list[str]:
    """What came out differently in two runs of one record; empty if nothing."""
    lines = changes(old.get("run", {}).get("digest"), new["run"]["digest"], "run.digest")
    lines += [line for name in RESULTS for line in changes(old.get(name), new.get(name), name)]
    later = [CALIBRATED] if CALIBRATED in old.get("files", ()) else []  # older runs kept none
    for name in (PREDICTIONS, VALIDATION, HEAD, *later):
        old_content, new_content = content(old_folder / name), content(new_folder / name)
        if old_content != new_content:
            lines.append(f"{name}: " + ("other bits" if old_content else "missing or damaged"))
    return lines


def content(path: Path) -> dict[str, Any] | None:
    """All that a safetensors file holds, whatever the order of its header; None where it cannot be read."""
    try:
        arrays, metadata = tensors.read(path)
    except InputError:
        return None
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()} | metadata


def compare_causes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What may explain a difference: versions, commit, device, rows, features."""
    return [line for name in CAUSES for line in changes(old.get(name), new.get(name), name)]


def changes(old: Any, new: Any, name: str = "") -> list[str]:
    """The leaves in which two JSON values differ, as `a.b: was 1, is 2`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in changes(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    # As text, since a metric that is not a number equals itself here.
    return [] if json.dumps(old) == json.dumps(new) else [f"{name}: was {old}, is {new}"]
