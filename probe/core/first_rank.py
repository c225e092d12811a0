"""Processes that train together: the first one works, the others wait for what it finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from probe.core.errors import ProbeError

WAIT = timedelta(hours=24)
"""A pass over many rows may take longer than the half hour after which collectives give up."""
Value = TypeVar("Value")


def is_first() -> bool:
    """Whether this process is the first of those that train together, or the only one.

    Before they have met, the environment tells: torchrun, Lightning and SLURM number the processes there.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    numbers = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((number for number in numbers if number is not None), "0") == "0"


class FirstRank:
    """Calls a function in the first rank alone and hands what it returns or raises to all: every rank has to call."""

    def __init__(self) -> None:
        self._group: Any = None

    def __call__(self, function: Callable[[], Value]) -> Value:
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return function()
        if self._group is None:  # of gloo, whose ranks may wait on the CPU for as long as they are told to
            self._group = dist.new_group(backend="gloo", timeout=WAIT)
        raised: Exception | None = None
        outcome: list[Any] = [None, None]
        if is_first():
            try:
                outcome = [function(), None]
            except Exception as error:  # the others would wait for ever
                raised, outcome = error, [None, f"{type(error).__name__}: {error}"]
        dist.broadcast_object_list(outcome, src=0, group=self._group)
        if raised is not None:
            raise raised
        value, failed = outcome
        if failed is not None:
            raise ProbeError(f"the first rank stopped ({failed}): what it says is to be mended")
        return value
