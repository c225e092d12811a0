"""Batches of images on a processor in parts, several of them side by side, each on threads of its own.

What a network makes of a whole batch on the way fits no cache: it goes to memory and comes back at each of its layers.
And threads that share each operation wait for each other at the end of each.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Features = dict[str, Tensor]
Run = Callable[[Tensor], Features]
PART_PIXELS = 8 * 224 * 224
"""Of all images of a part, in one channel."""
MOST_AT_ONCE = 16
"""Parts that are at work at once: each takes memory, and of more the interpreter, which runs one at a time, would make
each wait. Further threads are shared among them."""


def n_at_once(batch: Tensor, n_threads: int) -> int:
    """How many parts of a batch (N, C, H, W) to work at once, so that few threads stand idle; 1 of one part."""
    n_parts = _n_parts(batch)
    if n_parts == 1:
        return 1
    most = min(n_threads, MOST_AT_ONCE, 2 * n_parts, len(batch))  # parts of half the size, where there are many threads
    return max(range(most // 2 + 1, most + 1), key=lambda n: (n * (n_threads // n), n))


def split(batch: Tensor, n_at_once: int = 1) -> Sequence[Tensor]:
    """Parts of a batch (N, C, H, W) of about equal size, so many that none of those at work at once ends up alone."""
    return batch.tensor_split(max(1, min(len(batch), -(-_n_parts(batch) // n_at_once) * n_at_once)))


def _n_parts(batch: Tensor) -> int:
    return max(1, round(len(batch) * batch.shape[-2:].numel() / PART_PIXELS))


def joined(parts: Sequence[Features]) -> Features:
    """Features of parts as those of the batch."""
    return parts[0] if len(parts) == 1 else {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}


def side_by_side(runs: Sequence[Run], parts: Sequence[Tensor], n_threads: int) -> list[Features]:
    """The features of parts, in their order.

    Args:
        runs: What may run parts at the same time, each one part at a time.
        parts: (n, C, H, W) each, as many as there are runs or more.
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

    each, ready = max(1, n_threads // len(runs)), threading.Barrier(len(runs) + 1)

    def begin() -> None:
        torch.get_num_threads()  # of a thread from now on: the first to ask is given that of the process
        torch.set_num_threads(each)
        for _ in range(2):
            ready.wait()

    def start(threads: ThreadPoolExecutor) -> list[Future[Features]]:
        try:
            begun = [threads.submit(of_part, part) for part in parts]  # a thread each, until all are there
            ready.wait()
            torch.set_num_threads(n_threads)  # of the process again: that of threads which are born from now on
            ready.wait()
        except BaseException:  # a thread that could not be had, say: those that are there wait for it
            ready.abort()
            raise
        return begun

    with ThreadPoolExecutor(len(runs), initializer=begin) as threads:
        begun = start(threads)
        try:
            return [one.result() for one in begun]
        finally:
            for one in begun:
                one.cancel()
