"""Writes run folders, all or nothing, and what a run says of where it was made."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.core import tensors
from probe.core.version import __version__
from probe.core.writing import write_file, writing
from probe.results.reader import find_complete, read_result
from probe.results.schema import CALIBRATED, ERROR, HEAD, PREDICTIONS, RESULT, UNFINISHED, VALIDATION, dumps, file_facts

Arrays = Mapping[str, NDArray[Any]]
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


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Waits until no other process computes the run of this folder; the lock of a killed process is free.

    Where files cannot be locked, a run may be computed twice; `write_run` keeps the first.
    """
    from filelock import FileLock, Timeout

    unfinished = folder.parent / UNFINISHED
    with writing(folder.parent):
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
    predictions: Arrays,
    head: Any,
    *,
    replace: bool,
    calibrated: Any = None,
    validation: Arrays | None = None,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Writes a run folder all or nothing: aside first, on the disk, then one rename; `more` may add files to it.

    A run without a fitted head of its own, such as an ensemble, gives None for it.

    Where a complete run of this name has appeared meanwhile, it stays, unless `replace`.
    """
    partial = folder.parent / UNFINISHED / f"{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, arrays in ((PREDICTIONS, predictions), (VALIDATION, validation)):
            if arrays is not None:
                (partial / name).write_bytes(tensors.to_bytes(arrays))
        if head is not None:
            head.save(partial / HEAD)
        if calibrated is not None:
            calibrated.save(partial / CALIBRATED)
        if more:
            more(partial)
        files = {path.name: file_facts(path.read_bytes()) for path in sorted(partial.iterdir())}
        (partial / RESULT).write_bytes(dumps({**result, "files": files}))
        for path in (*partial.iterdir(), partial):
            to_disk(path)
        move_in(partial, folder, replace=replace)
        to_disk(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def add_file(folder: Path, name: str, write: Callable[[Path], None]) -> None:
    """Adds a file to a complete run, under `claim`: first the file, then the result that lists it.

    The run is complete all the while: who reads meanwhile, or after a crash, finds it as it was.

    Args:
        folder: Of the run.
        name: Of the file.
        write: Writes it to a path, whole or not at all.
    """
    write(folder / name)
    result = read_result(folder)
    files = {**result["files"], name: file_facts((folder / name).read_bytes())}
    write_file(folder / RESULT, dumps({**result, "files": dict(sorted(files.items()))}))


def to_disk(path: Path) -> None:
    """Waits until a file or the names in a folder are on the disk; where that cannot be asked for, it is not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def move_in(partial: Path, folder: Path, *, replace: bool) -> None:
    """Renames a finished folder to its name; what stands there goes, or stays where it is a complete run."""
    while True:
        try:
            os.replace(partial, folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
        if not replace and find_complete(folder) is not None:
            return
        old = partial.with_suffix(".old.partial")
        with contextlib.suppress(FileNotFoundError):  # another process moved it away first
            os.replace(folder, old)
        shutil.rmtree(old, ignore_errors=True)


def write_error(folder: Path, text: str) -> None:
    """Leaves `error.txt` where the run would have stood; a complete run of the same name is left alone."""
    write_file(folder / ERROR, text.rstrip() + "\n")


def forget_error(folder: Path) -> None:
    """Removes what `write_error` left, and nothing else."""
    with contextlib.suppress(OSError):
        (folder / ERROR).unlink()
        folder.rmdir()
