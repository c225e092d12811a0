"""Extraction on a Ray cluster: tasks that take row ranges until none is left, wherever Ray has room for them."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from sysconfig import get_path
from typing import Any, TypeVar

from probe.core.errors import InputError, ProbeError

Answer = TypeVar("Answer")
OBJECT_STORE_BYTES = 100 * 2**20
"""Features go to the cache, not through Ray: its object store carries sentences."""
KNOCK_SECONDS = 10.0


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster.

    Args:
        address: `auto` for the cluster that runs here, `host:port`, `ray://host:port`, or `local` for one of its own.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    ray = connect(address)
    try:
        yield ray
    finally:
        ray.shutdown()


def on_all(ray: Any, function: Callable[[int], Answer], *, n_tasks: int | None, n_cpus: int) -> list[Answer]:
    """Calls `function(i)` in tasks 0 to n_tasks - 1 of a cluster, all at once where it has room; returns their answers.

    A task whose process or node dies is started again, up to three times.

    Args:
        function: Pickled with cloudpickle.
        n_tasks: None for one per GPU of the cluster, or as many as its processors carry where it has none.
        n_cpus: Processors for each task. Each gets a GPU too, where the cluster has any.

    Raises:
        ProbeError: what a task raised.
    """
    total = ray.cluster_resources()
    n_gpus = int(total.get("GPU", 0))
    n_tasks = n_tasks or n_gpus or max(1, int(total.get("CPU", 1)) // n_cpus)
    task = ray.remote(_at(os.getcwd(), function)).options(
        num_cpus=n_cpus, num_gpus=min(1, n_gpus), max_retries=3, scheduling_strategy="SPREAD"
    )
    return _gather(ray, [task.remote(i) for i in range(n_tasks)])


def connect(
    address: str | None,
    *,
    user: str = "extract.engine=ray",
    setting: str = "extract.address",
    runtime_env: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """The module `ray`, connected.

    Args:
        address: As of `cluster`, or None for the cluster that was started here and else one of its own.
        user: Who needs Ray, and `setting` what holds the address: for the sentences.
        runtime_env: As of `ray.init`, which also gets the options.

    Raises:
        InputError: As `cluster`.
    """
    try:
        import ray
    except ImportError:
        raise InputError(f"{user} needs Ray, which is not installed: pip install -e '.[ray]'") from None
    if address in (None, "auto"):  # as Ray does, so that the sentence names what is tried
        address = os.environ.get("RAY_ADDRESS") or address
    tried = address or _started_here() or "local"
    address = "local" if tried == "local" else address  # else left to Ray, which may have a token for what it finds
    own: Any = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False} if address == "local" else {}
    asked = dict(runtime_env or {})
    path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    asked["env_vars"] = path | dict(asked.get("env_vars") or {})
    try:
        _knock(tried)
        # Its workers look first where it was started: anywhere but in the working folder, to which each task returns.
        with chdir(get_path("purelib")):
            ray.init(address=address, logging_level=logging.ERROR, runtime_env=asked, **{**own, **options})
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        if options and not isinstance(error, OSError):
            raise InputError(
                f"Ray does not start with {', '.join(options)} ({reason}): change what {user} is given"
            ) from error
        raise InputError(
            f"no Ray cluster answers at the address {tried} ({reason}): start one (`ray start --head`), give its "
            f"address ({setting}=host:6379), or set {setting}=local"
        ) from error
    return ray


def _started_here() -> str:
    """The address that the last `ray start` left on this machine, with which Ray itself begins; empty if none."""
    folder = os.environ.get("RAY_TMPDIR") or (sys.platform == "linux" and os.environ.get("TMPDIR")) or "/tmp"
    file = Path(folder) / "ray" / "ray_current_cluster"
    return file.read_text().strip() if file.exists() else ""


def _knock(address: str) -> None:
    """Fails at once where nobody listens: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _at(folder: str, function: Callable[[int], Answer]) -> Callable[[int], Answer]:
    """The function, called in a folder, so that relative paths mean the same in every task."""

    def called(number: int) -> Answer:
        os.chdir(folder)
        return function(number)

    return called


def _gather(ray: Any, tasks: Sequence[Any]) -> list[Any]:
    """The answers of all tasks, or what the first one that failed raised; the others are stopped then."""
    waiting = list(tasks)
    try:
        while waiting:
            (done, *_), waiting = ray.wait(waiting)
            ray.get(done)
    except ray.exceptions.RayTaskError as error:
        for task in waiting:
            ray.cancel(task)
        raise (error.cause if isinstance(error.cause, ProbeError) else error) from None
    return ray.get(list(tasks))
