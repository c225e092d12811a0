"""Processes that were started together: which of them this is, and whether they fit each other and share a cache.

torchrun tells each process its rank, and its TCP store is where they compare notes once, before the work; tasks of srun
do so in the cache (see `steps`). After that they meet in the cache folder only, where any of them may die or come late:
no collective ever waits for a dead rank.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from probe.core.errors import InputError
from probe.core.version import __version__
from probe.features.layout import write_error
from probe.features.processes.steps import Step, difference, number_in

START_TIME = timedelta(minutes=10)
"""How much later than the first the last process may start."""
MEET_TIME = timedelta(hours=24)
"""The first rank may read a whole dataset for its fingerprint while the others wait; torchrun ends them if it dies."""
SEE_SECONDS = 60.0
"""How long a network file system may take to show a new file."""
FOLDER = "ranks"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Card:
    """What a process shows to those that work with it.

    Attributes:
        name: How sentences call it, such as `rank 1 on node7`.
        token: Name of a file that it left in its cache folder.
        facts: What has to be the same for all.
    """

    name: str
    token: str
    facts: Mapping[str, str]

    def check(self, root: Path, other: Card) -> str:
        """What keeps two processes from sharing the work, as a sentence of the one that sees it; empty if nothing."""
        if sentence := difference(self.name, self.facts, other.name, other.facts):
            return sentence
        until = time.monotonic() + SEE_SECONDS
        while not (root / FOLDER / other.token).exists():
            if time.monotonic() > until:
                return (
                    f"{self.name} does not see what {other.name} wrote to the cache: {root} is not one folder that "
                    "both share, set PROBE_CACHE to a folder on a network file system"
                )
            time.sleep(0.1)
        return ""


@contextmanager
def shown(root: Path, name: str, facts: Mapping[str, str]) -> Iterator[Card]:
    """The card of this process, while its token lies in the cache."""
    card = Card(f"{name} on {socket.gethostname()}", uuid.uuid4().hex, facts)
    token = root / FOLDER / card.token
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise write_error(error, root) from error
    try:
        yield card
    finally:
        token.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """The versions that may change a bit of the features."""
    return {"probe's version": __version__} | {f"{name}'s version": version(name) for name in ("torch", "numpy")}


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that torchrun or srun started; alone without them."""

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0
    store: Any = None
    step: Step | None = None

    @classmethod
    def of_environment(cls) -> Ranks:
        """Reads what torchrun sets, or else srun; SLURM's number of the process on its node also tells it its GPU."""
        numbers = {name: number_in(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_LOCALID")}
        rank, n_ranks = numbers["RANK"] or 0, numbers["WORLD_SIZE"] or 1
        local_rank = numbers["SLURM_LOCALID"] if numbers["LOCAL_RANK"] is None else numbers["LOCAL_RANK"]
        store = None
        if n_ranks == 1 and (step := Step.of_environment()):
            return cls(step.task, step.n_tasks, local_rank or 0, step=step)
        if n_ranks > 1:
            from torch.distributed import PrefixStore, rendezvous

            try:
                store, rank, n_ranks = next(rendezvous("env://", timeout=START_TIME))
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    f"WORLD_SIZE={n_ranks}, but the ranks cannot be reached ({str(error).splitlines()[0]}): start them "
                    "with torchrun, or unset WORLD_SIZE and start the same command on each machine"
                ) from error
            store = PrefixStore(f"probe extract {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            store.set_timeout(MEET_TIME)
        return cls(rank, n_ranks, local_rank or 0, store)

    def device(self, device: str) -> str:
        """`auto` and `cuda` are a GPU of this process's own, where there is one; anything else stands as it is."""
        if device not in ("auto", "cuda"):
            return device
        import torch

        if not torch.cuda.is_available():
            return device
        own = f"cuda:{self.local_rank % torch.cuda.device_count()}"
        torch.cuda.set_device(own)  # else pinned memory opens a context of every process on the first GPU
        return own

    def one_first(self, function: Callable[[], Value]) -> Value:
        """Calls the function in the first rank, then in all others: what it leaves on the disk is made once."""
        if self.store is None:
            return function()
        if self.rank:
            self.store.wait(["first"], MEET_TIME)
        value = function()
        if not self.rank:
            self.store.set("first", "done")
        return value

    def meet(self, root: Path) -> None:
        """Tasks of srun return once they have seen that they share the cache; ranks of torchrun see it in `agree`."""
        if self.step is not None:
            self.step.meet(root)

    def agree(self, root: Path, command: str, facts: Mapping[str, str]) -> None:
        """Returns once every rank has seen the facts of all others, and their tokens in the cache.

        Args:
            command: The same word for processes that were told to do the same.

        Raises:
            InputError: the same sentence in all ranks: facts that differ, or a cache folder that is not shared.
        """
        if self.step is not None:
            self.step.compare(root, command, facts)
        if self.store is None:
            return
        with shown(root, f"rank {self.rank}", facts) as own:
            self.store.set(f"card {self.rank}", json.dumps(asdict(own)))
            others = [Card(**json.loads(self.store.get(f"card {i}"))) for i in range(self.n_ranks)]
            self.store.set(f"answer {self.rank}", next(filter(None, (own.check(root, other) for other in others)), ""))
            answers = [self.store.get(f"answer {i}").decode() for i in range(self.n_ranks)]
            self.store.set(f"bye {self.rank}", "")
            if not self.rank:  # which may be the one that keeps the store
                self.store.wait([f"bye {i}" for i in range(self.n_ranks)], MEET_TIME)
        if any(answers):
            raise InputError(next(filter(None, answers)))
