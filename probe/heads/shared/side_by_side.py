"""Parts of batches side by side on the threads of a processor, each part on one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from probe.heads.shared.module_solver import Batch, leave_gradients

Module = TypeVar("Module", bound=nn.Module)

PART_ROWS = 32
"""Rows of a part. The same on every machine: what a sum is made of shows in its last digits."""
SLICE_OUTPUTS = 128
"""Of a first layer, at the least, in one slice of its gradient: each slice reads the inputs of all rows once more."""


@contextmanager
def one_thread_each() -> Iterator[Executor]:
    """As many threads as torch has, each of which computes by itself, in NumPy's products too."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
            yield threads
    finally:
        torch.set_num_threads(n_threads)


class FirstLayer:
    """A linear layer ahead of a loss, whose gradient is one product over all rows of a batch.

    Where it has most of the weights, gradients of parts would be written and read once more for their sum.

    Args:
        layer: All of it is trained.
        inputs: (N, ..., D), of which no gradient is wanted.
        name: Under which the loss finds its outputs in a batch.
        dtype: What its products multiply.
    """

    def __init__(self, layer: nn.Linear, inputs: Tensor, name: str, dtype: torch.dtype):
        self.parameters, self.name, self._given = (layer.weight, layer.bias), name, inputs.detach()
        self._weight, self._bias = (X.detach().to(dtype) for X in self.parameters)
        fits = inputs.dtype == dtype and inputs.is_contiguous()
        self._inputs = self._given if fits else torch.empty(inputs.shape, dtype=dtype, device=inputs.device)
        self._slopes = self._inputs.new_empty(*inputs.shape[:-1], layer.out_features)
        self._gradients = torch.empty_like(layer.weight), torch.empty_like(layer.bias)

    def outputs(self, rows: slice) -> Tensor:
        """(n, ..., W) of some rows; `take_slopes` wants what the loss makes of them."""
        if self._inputs is not self._given:  # here and not for all rows at once: each part on its thread
            self._inputs[rows] = self._given[rows]
        return functional.linear(self._inputs[rows], self._weight, self._bias).to(self._given.dtype).requires_grad_()

    def take_slopes(self, rows: slice, slopes: Tensor) -> None:
        self._slopes[rows] = slopes

    def begin(self, threads: Executor, n_parts: int) -> list[Future[None]]:
        """Begins the gradients, in at most so many parts, each those of some outputs; all rows must have their slopes.

        The number of slices does not depend on that of threads: it shows in last digits.
        """
        n_slices = min(n_parts, max(1, len(self._bias) // SLICE_OUTPUTS))
        return [threads.submit(self._differentiate, outputs) for outputs in parts_of(len(self._bias), n_slices)]

    def leave_gradients(self) -> None:
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def _differentiate(self, outputs: slice) -> None:
        slopes, inputs = self._slopes.flatten(0, -2)[:, outputs], self._inputs.flatten(0, -2)
        of_weight, of_bias = (gradient[outputs] for gradient in self._gradients)
        if slopes.dtype == of_weight.dtype:
            torch.mm(slopes.mT, inputs, out=of_weight)
        else:
            of_weight.copy_(slopes.mT @ inputs)
        torch.sum(slopes, dim=0, dtype=of_bias.dtype, out=of_bias)


def parts_of(n: int, n_parts: int) -> list[slice]:
    """Nearly equal ones."""
    return [slice(n * i // n_parts, n * (i + 1) // n_parts) for i in range(n_parts)]


def begin_side_by_side(
    threads: Executor,
    loss: Callable[[Module, Batch], Tensor],
    module: Module,
    batch: Batch,
    first: FirstLayer | None = None,
) -> Callable[[], Tensor]:
    """Begins the gradients of a batch's loss; what is returned leaves them on the parameters and gives the loss.

    A step is many operations that are too small to share one by one: threads would wait for each other at each.
    Batches of several modules may be begun: no thread waits while parts of any are left.

    Args:
        threads: Of `one_thread_each`.
        loss: Mean over the rows, each of which counts by itself; draws no random numbers.
        module: All of its parameters are trained.
        batch: (N, ...) each.
        first: The layer that stands ahead of the loss, if any.
    """
    n_rows, ahead = len(next(iter(batch.values()))), () if first is None else first.parameters
    others = [parameter for parameter in module.parameters() if all(parameter is not mine for mine in ahead)]
    n_parts = -(-n_rows // PART_ROWS)
    unfinished, lock = n_parts, threading.Lock()
    of_first: list[Future[None]] = []

    def of_part(rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
        nonlocal unfinished
        part = {name: tensor[rows] for name, tensor in batch.items()}
        if first is not None:
            part[first.name] = first.outputs(rows)
        value = loss(module, part) * ((rows.stop - rows.start) / n_rows)
        if first is None:
            return value.detach(), torch.autograd.grad(value, others)
        slopes, *gradients = torch.autograd.grad(value, [part[first.name], *others])
        first.take_slopes(rows, slopes)
        with lock:
            unfinished -= 1
            is_last = not unfinished
        if is_last:  # begun here and not when the batch is ended: until then threads might wait
            of_first.extend(first.begin(threads, n_parts))
        return value.detach(), tuple(gradients)

    parts = [threads.submit(of_part, rows) for rows in parts_of(n_rows, n_parts)]

    def end() -> Tensor:
        values, gradients = zip(*(part.result() for part in parts), strict=True)
        leave_gradients(others, *gradients)
        for done in of_first:
            done.result()
        if first is not None:
            first.leave_gradients()
        return torch.stack(values).sum()

    return end
