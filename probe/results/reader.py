"""Reads run folders; what is wrong with one is said in one sentence, an `InputError`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.core import tensors
from probe.core.errors import InputError
from probe.results.schema import AGAIN, ERROR, HEAD, PARTS, PREDICTIONS, RESULT, VALIDATION, file_facts, loads

Arrays = dict[str, NDArray[Any]]


def read_result(folder: str | Path) -> dict[str, Any]:
    """The checked content of a run's `result.json`; `schema` says what it holds.

    Raises:
        InputError: It is missing, damaged, edited or of another version.
    """
    try:
        with open(os.path.join(folder, RESULT), "rb") as file:
            raw = file.read()
    except OSError as error:
        raise InputError(f"{RESULT} cannot be read ({error.strerror}): give the folder of a complete run") from error
    return loads(raw)


def find_complete(folder: str | Path) -> dict[str, Any] | None:
    """The result of a whole run folder, every file of the size that the run wrote; None where there is none."""
    try:
        result = read_result(folder)
        sizes = {name: os.stat(os.path.join(folder, name)).st_size for name in result["files"]}
    except (InputError, OSError):
        return None
    return result if sizes == {name: facts["bytes"] for name, facts in result["files"].items()} else None


def read_file(folder: str | Path, name: str, result: Mapping[str, Any] | None = None) -> bytes:
    """A file of a run, which is as the run wrote it.

    Args:
        folder: Of the run.
        name: Of the file.
        result: Of the run, where it has been read already.
    """
    expected = (read_result(folder) if result is None else result)["files"].get(name)
    if expected is None:
        raise InputError(f"the run in {folder} wrote no {name}: give the folder of a run that did")
    try:
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
    except FileNotFoundError as error:
        raise InputError(f"{name} is missing: {AGAIN}") from error
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}): {AGAIN}") from error
    if file_facts(content) != expected:
        raise InputError(f"{name} is half-written or damaged: {AGAIN}")
    return content


def read_predictions(folder: str | Path, result: Mapping[str, Any] | None = None) -> Arrays:
    """The arrays of a run's test rows; `schema.ARRAYS` names them."""
    return tensors.arrays_from_bytes(read_file(folder, PREDICTIONS, result), PREDICTIONS)


def read_validation(folder: str | Path, result: Mapping[str, Any] | None = None) -> Arrays | None:
    """The arrays of the validation rows; None where the head did not choose on any."""
    result = read_result(folder) if result is None else result
    if VALIDATION not in result["files"]:
        return None
    return tensors.arrays_from_bytes(read_file(folder, VALIDATION, result), VALIDATION)


def checked_head(folder: str | Path, name: str = HEAD) -> Path:
    """The file of a fitted head, which is as the run wrote it."""
    read_file(folder, name)
    return Path(folder) / name


def failure(folder: str | Path, names: set[str]) -> str:
    """Why a folder without `result.json` is no run."""
    if not names:
        return "the folder cannot be opened"
    if ERROR not in names:
        return f"half-written: it has no {RESULT} yet"
    with open(os.path.join(folder, ERROR), encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return f"failed: {lines[-1][:200]}" if lines else "failed"


def walk(root: str, is_known: Callable[[str], bool] = lambda relative: False) -> Iterator[tuple[str, set[str]]]:
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
        below = sorted([n for n, e in found.items() if n[0] != "." and e.is_dir(follow_symlinks=False)], reverse=True)
        stack += [name if relative == "." else f"{relative}/{name}" for name in below]
