"""How much memory this process may still take: what the machine has left, and what its control groups leave it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from probe.core.device import free_bytes

ROOT = Path("/")


def available_bytes(device: str = "cpu") -> int:
    """Bytes that a GPU, or this machine, can still give; without limit where that cannot be known."""
    if device.startswith("cuda"):
        return free_bytes(device)
    return min([_of_machine(), *_of_groups()])


def _of_machine() -> int:
    try:
        facts = dict(line.split(":", 1) for line in (ROOT / "proc/meminfo").read_text().splitlines())
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return sys.maxsize


def _of_groups() -> Iterator[int]:
    """What the limits of containers and batch jobs leave: those of the group of this process, and of all above it.

    Pages of files that a group has read count as its own, and go when it needs the room.
    """
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0":
            root, limit, used, cached = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        top = ROOT / root
        here = top / path.lstrip("/")
        for folder in (here, *here.parents):
            left = _left(folder, limit, used, cached)
            if left is not None:
                yield left
            if folder == top:
                break


def _left(folder: Path, limit: str, used: str, cached: str) -> int | None:
    """Bytes below the limit of one group; None where it has none, or does not say."""
    try:
        told = (folder / limit).read_text().strip()
        if told == "max":
            return None
        taken = int((folder / used).read_text())
        facts = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, int(told) - taken + int(facts.get(cached, 0)))
    except (OSError, ValueError):
        return None
