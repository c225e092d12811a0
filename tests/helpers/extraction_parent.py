"""What the tests do with the child processes of an extraction."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import extraction_child as child
import numpy as np

# A server that has imported torch already: its children start in milliseconds, so that kills hit the extraction.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["extraction_child"])
BATCH = 5
"""Rows of a batch of `extraction_child.extract`."""


def start(target: Any, *args: Any, **kwargs: Any) -> Any:
    process = SERVER.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    return process


def bytes_of(features: Any) -> dict[str, bytes]:
    return {kind: np.asarray(array[:]).tobytes() for kind, array in features.arrays.items()}


def interrupt(root: Path, log: Path, rows: int) -> None:
    """Leaves behind an extraction that was killed after so many rows."""
    process = start(child.extract, root, log, stall=rows)
    wait_for(log, rows, process)
    time.sleep(0.05)  # for the blocks that wait for the disk
    process.kill()
    process.join()


def wait_for(log: Path, rows: int, process: Any) -> None:
    while child.rows_logged(log) < rows:
        assert process.is_alive(), f"the child ended with code {process.exitcode}"
        time.sleep(0.002)


def pass_folder(root: Path) -> Path:
    """The folder of the one extraction in a cache."""
    (manifest,) = root.rglob("manifest.json")
    return manifest.parent


def nothing_but_the_pass(root: Path) -> None:
    """What a kill left half made or half removed is out of the way, for `prune`."""
    folder = pass_folder(root)
    assert {p.name for p in folder.parent.iterdir() if not p.name.startswith(".")} == {folder.name, "used"}
    assert not list(folder.parent.glob(".work-*/data"))
    assert len(list(folder.iterdir())) == 11
