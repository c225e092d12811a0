"""What the child processes of the tests run; imported by the fork server once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import tqdm  # noqa: F401
from extraction_toys import ToyBackbone, Unguarded, toy_dataset

import probe.features.extraction.finish
import probe.features.extraction.sink
import probe.features.layout
import probe.features.processes.ranks
import probe.features.store
import probe.heads.shared.head
from probe.core.errors import InputError
from probe.features.processes.ranks import Ranks

KINDS = ("pooled", "tokens", "words")


class LoggingBackbone(ToyBackbone):
    """Notes the rows of every batch it extracts in a file that outlives the process; stalls after so many rows."""

    def __init__(self, log: Path, delay: float, stall: int | None = None):
        super().__init__(delay=delay)
        self.log, self.stall = log, stall

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        with open(self.log, "a") as file:
            file.write(f"{len(batch)}\n")
        while self.stall is not None and rows_logged(self.log) >= self.stall:
            time.sleep(0.1)
        return super().extract(batch, kinds)


def extract(root: Path, log: Path, n: int = 200, delay: float = 0.002, stall: int | None = None, **options: Any) -> Any:
    torch.set_num_threads(1)
    probe.features.extraction.sink.SYNC_SECONDS = 0.0
    options = {"batch_size": 5, "progress": False, "device": "cpu"} | options
    return Unguarded(root).get(LoggingBackbone(log, delay, stall), toy_dataset(n), "train", KINDS, **options)


def extract_when_all_are_ready(barrier: Any, root: Path, log: Path, **options: Any) -> None:
    barrier.wait()
    extract(root, log, **options)


def extract_as_rank(
    rank: int, n_ranks: int, port: int, root: Path, log: Path, answers: Any = None, seed: int = 0, **options: Any
) -> None:
    """What a process of `torchrun -m probe.features.extraction.contribute` does; sends the sentence that refuses it."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    probe.features.processes.ranks.SEE_SECONDS = 1.0
    backbone, rows = ToyBackbone(seed=seed), toy_dataset(options.get("n", 200)).partitions["train"]
    facts = {"the weights": backbone.identity()["weights"], "the rows": rows.fingerprint}
    try:
        Ranks.of_environment().agree(root, "", facts)
    except InputError as error:
        answers.send(str(error))
    else:
        extract(root, log, **options)


def first_then_all(rank: int, n_ranks: int, port: int, log: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = Ranks.of_environment()

    def work() -> None:
        time.sleep(0.0 if rank else 0.2)
        with open(log, "a") as file:
            file.write(f"{rank}\n")

    ranks.one_first(work)
    ranks.agree(log.parent, "", {})


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
    probe.features.extraction.sink.write_at = mortal(probe.features.extraction.sink.write_at)
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


def extract_as_user(user: int, root: Path, log: Path, stall: int | None) -> None:
    """Extracts as one of several users of the group `nogroup`."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(user)
    os.umask(0o002)
    extract(root, log, delay=0.0, stall=stall)


class WideBackbone(ToyBackbone):
    """50 kB of tokens per row from 48 bytes."""

    kinds = ("tokens",)

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        return {"tokens": batch.mean(dim=1)[:, None, None].expand(-1, 100, 256)}


def extract_in_little_memory(root: Path, n: int, spare: int, answers: Any) -> None:
    """Extracts and reads back with `spare` more bytes of memory than the process has when it starts."""
    import resource

    torch.set_num_threads(1)
    status = Path("/proc/self/status").read_text()
    in_use = 1024 * int(status.partition("VmData:")[2].split()[0])
    # Counts what is private and can be written; a mapped file takes addresses, not memory.
    resource.setrlimit(resource.RLIMIT_DATA, (in_use + spare, in_use + spare))
    dataset = toy_dataset(n)
    options = {"batch_size": 64, "progress": False, "device": "cpu"}
    tokens = Unguarded(root).get(WideBackbone(), dataset, "train", ["tokens"], **options).arrays["tokens"]
    equal = all(
        np.allclose(tokens[i : i + 64, 0, 0], dataset.partitions["train"].rows[i : i + 64].mean(axis=1), atol=1e-2)
        for i in range(0, n, 64)
    )
    try:
        refused = np.ones_like(np.broadcast_to(np.float16(0), tokens.shape)) is None
    except MemoryError:
        refused = True
    answers.send((tokens.nbytes, equal, refused))


def rows_logged(log: Path) -> int:
    return sum(int(line) for line in log.read_text().split()) if log.exists() else 0
