"""The run folder: how a finished run is written, named and recognised."""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import __version__
from probe.core.base import IntArray
from probe.core.targets import Target
from probe.metrics.evaluate import ROWS_BY_TARGET

SCHEMA = 1
MAX_CLASSES_WITH_LOGITS = 100
# Beside the run folders: what is being written, and the locks of whoever writes it.
UNFINISHED = ".unfinished"
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


def prediction_arrays(
    target: Target,
    outputs: NDArray[np.float32],
    labels: NDArray[Any],
    rows: IntArray,
    save_logits: bool | None,
    measured: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[Any]]:
    """What is kept per test row: what the target keeps, and the outputs as `logits` where they are few.

    `metric.<name>` are the values per row of metrics that do not follow from these alone. Rows with several labels
    have their part in each metric under its own name.
    """
    arrays = {"row": rows, **target.predictions(outputs, labels)}
    if target.name in ROWS_BY_TARGET:
        arrays |= ROWS_BY_TARGET[target.name](outputs, labels)
    if save_logits or (save_logits is None and outputs.shape[1] <= MAX_CLASSES_WITH_LOGITS):
        arrays["logits"] = outputs
    return arrays | {f"metric.{name}": values.astype(np.float32) for name, values in measured.items()}


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a complete run folder; None where there is none of this schema."""
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return result if isinstance(result, dict) and result.get("schema") == SCHEMA else None


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Waits until no other process computes the run of this folder; the lock of a killed process is free.

    Where files cannot be locked, a run may be computed twice; `write_run` keeps the first.
    """
    from filelock import FileLock, Timeout

    unfinished = folder.parent / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    lock = FileLock(unfinished / f"{folder.name}.lock")
    try:
        lock.acquire()
    except (OSError, NotImplementedError, Timeout):
        yield
        return
    try:
        for partial in unfinished.glob(f"{glob.escape(folder.name)}.*.partial"):
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)  # while it is held: whoever waits for it looks for the run next
        lock.release()


def write_run(
    folder: Path,
    result: Mapping[str, Any],
    predictions: Mapping[str, NDArray[Any]],
    head: Any,
    *,
    replace: bool,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Writes a run folder all or nothing: aside first, then one rename; `more` may add files to it.

    Where a complete run of this name has appeared meanwhile, it stays, unless `replace`.
    """
    from safetensors.numpy import save

    partial = folder.parent / UNFINISHED / f"{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        # `save_file` would keep the group out, whatever the umask says.
        arrays = {name: np.ascontiguousarray(a) for name, a in predictions.items()}
        (partial / "predictions.safetensors").write_bytes(save(arrays))
        head.save(partial / "head.safetensors")
        if more:
            more(partial)
        move_in(partial, folder, replace=replace)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def move_in(partial: Path, folder: Path, *, replace: bool) -> None:
    """Renames a finished folder to its name; what stands there goes, or stays where it is a complete run."""
    while True:
        try:
            os.replace(partial, folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
        if not replace and read_result(folder) is not None:
            return
        old = partial.with_suffix(".old.partial")
        with contextlib.suppress(FileNotFoundError):  # another process moved it away first
            os.replace(folder, old)
        shutil.rmtree(old, ignore_errors=True)


def write_error(folder: Path, text: str) -> None:
    """Leaves `error.txt` where the run would have stood; a complete run of the same name is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(text.rstrip() + "\n")


def compare(old_folder: Path, old: Mapping[str, Any], new_folder: Path, new: Mapping[str, Any]) -> list[str]:
    """What came out differently in two runs of one record; empty if nothing."""
    lines = changes(old.get("run", {}).get("digest"), new["run"]["digest"], "run.digest")
    lines += [line for name in RESULTS for line in changes(old.get(name), new.get(name), name)]
    for name in ("predictions.safetensors", "head.safetensors"):
        old_content, new_content = content(old_folder / name), content(new_folder / name)
        if old_content != new_content:
            lines.append(f"{name}: " + ("other bits" if old_content else "missing or damaged"))
    return lines


def content(path: Path) -> dict[str, Any] | None:
    """All that a safetensors file holds, but for the order of its header, which changes from one save to the next."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()} | (file.metadata() or {})
    except (OSError, SafetensorError):
        return None


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
