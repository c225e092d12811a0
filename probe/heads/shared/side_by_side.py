"""Parts of batches side by side on the threads of a processor, each part on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from probe.heads.shared.module_solver import Batch, leave_gradients

Module = TypeVar("Module", bound=nn.Module)

PART_ROWS = 32
"""Rows of a part. The same on every machine: what a sum is made of shows in its last digits."""


@contextmanager
def one_thread_each() -> Iterator[Executor]:
    """As many threads as torch has, each of which computes by itself."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads) as threads:
            yield threads
    finally:
        torch.set_num_threads(n_threads)


def begin_side_by_side(
    threads: Executor, loss: Callable[[Module, Batch], Tensor], module: Module, batch: Batch
) -> Callable[[], Tensor]:
    """Begins the gradients of a batch's loss; what is returned leaves them on the parameters and gives the loss.

    A step is many operations that are too small to share one by one: threads would wait for each other at each.
    Batches of several modules may be begun: no thread waits while parts of any are left.

    Args:
        threads: Of `one_thread_each`.
        loss: Mean over the rows, each of which counts by itself; draws no random numbers.
        module: All of its parameters are trained.
        batch: (N, ...) each.
    """
    n_rows, parameters = len(next(iter(batch.values()))), list(module.parameters())
    n_parts = -(-n_rows // PART_ROWS)
    split = {name: tensor.tensor_split(n_parts) for name, tensor in batch.items()}

    def of_part(i: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        part = {name: tensors[i] for name, tensors in split.items()}
        value = loss(module, part) * (len(next(iter(part.values()))) / n_rows)
        return value.detach(), torch.autograd.grad(value, parameters)

    parts = [threads.submit(of_part, i) for i in range(n_parts)]

    def end() -> Tensor:
        values, gradients = zip(*(part.result() for part in parts), strict=True)
        leave_gradients(parameters, *gradients)
        return torch.stack(values).sum()

    return end
