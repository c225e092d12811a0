"""Batches of images on a processor in parts, several of them side by side, each on threads of its own.

What a network makes of a whole batch on the way fits no cache: it goes to memory and comes back at each of its layers.
And threads that share each operation wait for each other at the end of each.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from probe.backbones.shared.borrowed import tensors_of

Features = dict[str, Tensor]
Run = Callable[[Tensor], Features]
PART_PIXELS = 8 * 224 * 224
"""Of all images of a part, in one channel. The same on every machine, as it may show in last digits."""


def split(batch: Tensor, n_at_once: int = 1) -> Sequence[Tensor]:
    """Parts of a batch (N, C, H, W) of about equal size, so many that none of those at work at once ends up alone."""
    n_parts = max(1, round(len(batch) * batch.shape[-2:].numel() / PART_PIXELS))
    n_at_once = min(n_at_once, n_parts)
    return batch.tensor_split(min(len(batch), -(-n_parts // n_at_once) * n_at_once))


def joined(parts: Sequence[Features]) -> Features:
    """Features of parts as those of the batch."""
    return parts[0] if len(parts) == 1 else {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}


def side_by_side(runs: Sequence[Run], parts: Sequence[Tensor], n_threads: int) -> list[Features]:
    """The features of parts, in their order.

    Args:
        runs: What may run parts at the same time, each one part at a time.
        parts: (n, C, H, W) each.
        n_threads: To share among them.

    Raises:
        Exception: What the first part raised that did; those that were not begun are not run any more.
    """
    free: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in runs:
        free.put(run)
    inference = torch.is_inference_mode_enabled()  # of a thread, as autocast is

    def of_part(part: Tensor) -> Features:
        run = free.get()
        try:
            with torch.inference_mode(inference):
                return run(part)
        finally:
            free.put(run)

    each = max(1, n_threads // len(runs))
    try:
        with ThreadPoolExecutor(len(runs), initializer=torch.set_num_threads, initargs=(each,)) as threads:
            begun = [threads.submit(of_part, part) for part in parts]
            try:
                return [one.result() for one in begun]
            finally:
                for one in begun:
                    one.cancel()
    finally:
        torch.set_num_threads(n_threads)  # that of threads which are born from now on


def replicas(backbone: Any, n: int) -> list[Any]:
    """Backbones whose networks are modules of their own around the same tensors; fewer where they cannot be copied.

    What a network keeps while it runs, and who listens to its layers, belongs to a replica alone.
    """
    tensors = {id(tensor): tensor for module in backbone.network.modules() for tensor in tensors_of(module)}
    found = []
    for _ in range(n):
        replica = copy.copy(backbone)
        try:
            replica.network = copy.deepcopy(backbone.network, dict(tensors))
        except Exception:  # whatever a class raises: then one part is run after the other
            break
        vars(replica).pop("_blocks", None)  # which lie in the network
        found.append(replica)
    return found
