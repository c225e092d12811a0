"""The tasks that one `srun` started: whether they share a cache, and fit each other.

srun gives its tasks numbers and nothing to talk through, so that they compare notes in the cache itself, the folder in
question. Each leaves a token before any work, and looks for those of all others. Weights, data and versions, which
take a while to hash, are compared with those of tasks that were faster: nobody waits for a task that died.

    <cache>/steps/<step>/<task>                 was here; stays, for the next command of the same step
                         <task>.<command>.json  its facts, for one command
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from probe.core.errors import InputError
from probe.features.layout import write_error, write_json

MEET_SECONDS = 120.0
"""How much later than the first the last task may start; a network file system may take half of it to show a file."""
KEEP_SECONDS = 90 * 86400.0
FOLDER = "steps"


@dataclass(frozen=True)
class Step:
    """The place of this process among the tasks of a job step.

    Attributes:
        name: Differs from the names of all other steps, and of the same job when it is requeued.
    """

    name: str
    task: int
    n_tasks: int

    @classmethod
    def of_environment(cls) -> Self | None:
        """What srun sets; None outside of it, where it started one task, and in a batch script."""
        n_tasks, task = number_in("SLURM_STEP_NUM_TASKS") or 1, number_in("SLURM_PROCID")
        if n_tasks < 2 or task is None:
            return None
        words = [os.environ.get(f"SLURM_{name}", "") for name in ("CLUSTER_NAME", "JOB_ID", "STEP_ID", "RESTART_COUNT")]
        return cls("-".join(filter(None, words)), task, n_tasks)

    def meet(self, root: Path) -> None:
        """Returns once this task sees that every other one has written to the cache.

        Raises:
            InputError: The cache folder is not shared, or a task did not start.
        """
        folder = root / FOLDER / self.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(self.task)).touch()
        except OSError as error:
            raise write_error(error, root) from error
        if not self.task:
            _forget_old(root / FOLDER)
        until, unseen = time.monotonic() + MEET_SECONDS, list(range(self.n_tasks))
        while unseen := [task for task in unseen if not (folder / str(task)).exists()]:
            if time.monotonic() > until:
                raise InputError(
                    f"{self._called} sees nothing of task {', '.join(map(str, unseen))} in the cache {root} after "
                    f"{MEET_SECONDS:.0f} s: set PROBE_CACHE to one folder that all nodes share, or look in srun's "
                    "output why it did not start"
                )
            time.sleep(0.1)

    def compare(self, root: Path, command: str, facts: Mapping[str, str]) -> None:
        """Refuses facts other than those of the tasks that have come so far with the same command.

        Raises:
            InputError: Other versions, weights or data.
        """
        folder = root / FOLDER / self.name
        write_json(folder / f"{self.task}.{command}.json", {"name": self._called, "facts": dict(facts)})
        for task in range(self.n_tasks):
            with contextlib.suppress(FileNotFoundError):
                other = json.loads((folder / f"{task}.{command}.json").read_bytes())
                if sentence := difference(self._called, facts, other["name"], other["facts"]):
                    raise InputError(sentence)

    @property
    def _called(self) -> str:
        return f"task {self.task} on {os.environ.get('SLURMD_NODENAME') or socket.gethostname()}"


def _forget_old(folder: Path) -> None:
    for step in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - step.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(step, ignore_errors=True)


def number_in(name: str) -> int | None:
    """The number that a variable of the environment holds; None if it is not set."""
    text = os.environ.get(name)
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise InputError(f"the environment says {name}={text}, expected a number: unset it, or start with torchrun or srun")


def difference(name: str, facts: Mapping[str, str], other_name: str, other_facts: Mapping[str, str]) -> str:
    """The sentence that refuses two processes with other facts; empty where they are the same."""
    for fact, own in facts.items():
        if other_facts.get(fact) != own:
            return (
                f"{fact} is {own} at {name} and {other_facts.get(fact)} at {other_name}: processes that share an "
                "extraction need the same versions, weights, data and overrides"
            )
    return ""
