"""What the child processes of the tests run; imported by the fork server once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import tqdm  # noqa: F401
from conftest import ToyBackbone, toy_dataset

import probe.estimator
import probe.features.extract
import probe.features.finish
import probe.features.layout
import probe.features.store
from probe.features.store import FeatureStore

KINDS = ("pooled", "tokens")


class LoggingBackbone(ToyBackbone):
    """Notes the rows of every batch it extracts in a file that outlives the process."""

    def __init__(self, log: Path, delay: float):
        super().__init__(delay=delay)
        self.log = log

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        with open(self.log, "a") as file:
            file.write(f"{len(batch)}\n")
        return super().extract(batch, kinds)


def extract(root: Path, log: Path, n: int = 200, delay: float = 0.002, sync: float = 0.0, **options: Any) -> Any:
    torch.set_num_threads(1)
    probe.features.extract.SYNC_SECONDS = sync
    options = {"batch_size": 5, "progress": False, "device": "cpu"} | options
    return FeatureStore(root).get(LoggingBackbone(log, delay), toy_dataset(n), "train", KINDS, **options)


def extract_when_all_are_ready(barrier: Any, root: Path, log: Path, **options: Any) -> None:
    barrier.wait()
    extract(root, log, **options)


def extract_and_die(root: Path, log: Path, at: int, done: Path) -> None:
    """Dies without a word at the `at`-th operation on the disk; makes the file `done` when it came through."""
    counter = iter(range(at))

    def mortal(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(counter, None) is None:
                os._exit(9)
            return function(*args, **kwargs)

        return wrapped

    for name in ("rename", "replace", "fsync", "fdatasync", "mkdir", "unlink", "open", "link"):
        setattr(os, name, mortal(getattr(os, name)))
    probe.features.extract.write_at = mortal(probe.features.extract.write_at)
    extract(root, log, n=20, delay=0.0)
    os._exit(0 if done.write_text("") == 0 else 1)


def read_as_nobody(root: Path, answers: Any) -> None:
    """Asks for what is in the cache and for what is not, without the right to write."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    answers.send(extract(root, Path(os.devnull), n=20).seconds)
    try:
        extract(root, Path(os.devnull), n=21)
    except OSError as error:
        answers.send(f"{type(error).__name__}: {error}")


def rows_logged(log: Path) -> int:
    return sum(int(line) for line in log.read_text().split()) if log.exists() else 0
