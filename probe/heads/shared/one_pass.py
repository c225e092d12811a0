"""One pass over rows that may be larger than memory, for the sums that class statistics are made of."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.finite import THREAD_ENTRIES, parts_of
from probe.core.terminal import Lasting, lasting

if TYPE_CHECKING:
    from torch import Tensor

Second = Literal["none", "diagonal", "class_diagonal", "full"]

# A block that stays in the processor's cache is converted, summed and squared about three times as fast.
BLOCK_BYTES = 2**20
# A GPU wants few launches and long copies.
GPU_BLOCK_BYTES = 64 * 2**20
# Products of matrices want more rows: below about 2 D of them, adding the (D, D) block to its total costs too much.
PRODUCT_BLOCK_BYTES = 16 * 2**20
# Second moments of all threads together.
THREAD_BYTES = 2**28


@dataclass
class Sums:
    """What a pass collects, in float64: `sums` (K, D), `squares` about the shift, `low` and `high` (D,)."""

    sums: Any
    squares: Any
    low: Any
    high: Any

    def add(self, other: Sums) -> None:
        """Takes in the sums of further rows."""
        self.sums += other.sums
        self.squares += other.squares
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)


class Sweep:
    """How to pass over rows (N, D) with class codes (N,).

    Args:
        shift: (D,) the point that second moments are taken about, as one of the rows: exact in their own precision.
        n_classes: K.
        second: Which second moments.
        extremes: Whether to look for the smallest and largest values.
        unit_rows: Whether each row is scaled to unit length first; a zero row stays.
        narrow: Whether products for `full` are computed in float32.
        device: Where.
    """

    def __init__(
        self,
        shift: Any,
        n_classes: int,
        *,
        second: Second,
        extremes: bool,
        unit_rows: bool,
        narrow: bool,
        device: str,
    ):
        self.shift, self.n_classes, self.device = shift, n_classes, device
        self.second, self.extremes, self.unit_rows, self.narrow = second, extremes, unit_rows, narrow

    def over(self, X: Any, codes: IntArray) -> Sums:
        """The sums of all rows, as numpy arrays; threads take contiguous parts of the rows each."""
        n_parts = self._n_parts(X)
        parts = parts_of(X, n_parts)
        with one_thread_each(n_parts), lasting(len(X), " rows") as shown:
            if n_parts == 1:
                return self._part(X, codes, parts[0], shown)
            with ThreadPoolExecutor(n_parts) as pool:
                first, *others = pool.map(lambda part: self._part(X, codes, part, shown), parts)
        for other in others:
            first.add(other)
        return first

    def _n_parts(self, X: Any) -> int:
        import torch

        if self.device != "cpu":
            return 1
        width = X.shape[1]
        n = min(torch.get_num_threads(), len(X) * width // THREAD_ENTRIES)
        if self.second == "full":
            n = min(n, THREAD_BYTES // (8 * width**2))
        return max(1, n)

    def _part(self, X: Any, codes: IntArray, part: slice, shown: Lasting) -> Sums:
        import torch

        shift = torch.as_tensor(self.shift, device=self.device)
        sums = torch.zeros(self.n_classes, len(shift), dtype=torch.float64, device=self.device)
        low, high = torch.full_like(shift, np.inf), torch.full_like(shift, -np.inf)
        seconds, blocks = _Seconds(self, shift), _Blocks(X, self.device)
        for rows in row_chunks(X, BLOCK_BYTES if self.device == "cpu" else GPU_BLOCK_BYTES, part):
            block, wide = blocks.read(rows)
            k = torch.as_tensor(codes[rows], device=self.device)
            if self.extremes:
                low, high = torch.minimum(low, block.amin(0)), torch.maximum(high, block.amax(0))
            if self.unit_rows:
                norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
                block = wide.div_(torch.where(norms > 0, norms, 1))
            _add_by_class(sums, k, wide)
            seconds.add(block, wide, k)
            shown.add(rows.stop - rows.start)
        return Sums(*(tensor.cpu().numpy() for tensor in (sums, seconds.total(), low, high)))


class _Blocks:
    """Reads blocks into the same memory over and over: new memory costs more than the sums, in threads above all."""

    def __init__(self, X: Any, device: str):
        self.X, self.device = X, device
        self.room: dict[Any, Tensor] = {}

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """A block in float32 (float64 where the rows are), and in float64; both may be changed until the next one."""
        import torch

        # Read-only memory, which torch warns about, is copied; the caller's own is read and no more.
        array = np.require(self.X[rows], requirements=["C", "W"])
        source = torch.from_numpy(array).to(self.device)
        if array.dtype == np.float64:
            wide = self._into(source, torch.float64)
            return wide, wide
        narrow = self._into(source, torch.float32)
        # Float16, which float32 holds exactly, goes straight to float64 in two to three times as long.
        return narrow, self._into(narrow if array.dtype == np.float16 else source, torch.float64)

    def _into(self, source: Tensor, dtype: Any) -> Tensor:
        import torch

        if dtype not in self.room or len(self.room[dtype]) < len(source):
            self.room[dtype] = torch.empty(source.shape, dtype=dtype, device=source.device)
        return self.room[dtype][: len(source)].copy_(source)


class _Seconds:
    """Second moments about the shift of the blocks so far."""

    def __init__(self, sweep: Sweep, shift: Tensor):
        import torch

        self.second, self.shift = sweep.second, shift
        self.at_zero = not bool(shift.any())
        width = len(shift)
        shapes = {"none": (0,), "diagonal": (width,), "class_diagonal": (sweep.n_classes, width),
                  "full": (width, width)}  # fmt: skip
        self.squares = torch.zeros(shapes[self.second], dtype=torch.float64, device=shift.device)
        self.dtype = torch.float32 if sweep.narrow else torch.float64
        self.waiting: list[Tensor] = []
        self.rows_per_product = PRODUCT_BLOCK_BYTES // (4 * width)

    def add(self, block: Tensor, wide: Tensor, codes: Tensor) -> None:
        """Takes in a block: as it came, in float64, and its codes. Changes the second."""
        if self.second == "full":
            # The difference of two float32 numbers, rounded once, is what float64 would give and round.
            rows = block if block.dtype == self.dtype else wide
            self.waiting.append((rows - self.shift.to(rows.dtype)).to(self.dtype))
            if sum(map(len, self.waiting)) >= self.rows_per_product:
                self._multiply()
        elif self.second != "none":
            moved = wide if self.at_zero else wide.sub_(self.shift)
            if self.second == "diagonal":
                self.squares += _column_squares(moved)
            else:
                _add_by_class(self.squares, codes, moved.square_())

    def total(self) -> Tensor:
        """The second moments, of all blocks."""
        if self.waiting:
            self._multiply()
        return self.squares

    def _multiply(self) -> None:
        import torch

        self.squares += _gram(torch.cat(self.waiting))
        self.waiting.clear()


@contextmanager
def one_thread_each(n_parts: int) -> Iterator[None]:
    """Keeps torch to one thread: on blocks that fit the cache, waiting for other threads costs more than they do.

    Where other programs want the processor too, each such wait lasts a slice of the scheduler, thousandfold the work.
    The products of matrices are NumPy's and keep their threads, unless parts of the rows are multiplied side by side.
    """
    import torch
    from threadpoolctl import threadpool_limits

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if n_parts == 1:
            yield
        else:
            with threadpool_limits(1, user_api="blas"):
                yield
    finally:
        torch.set_num_threads(n_threads)


def _add_by_class(totals: Tensor, codes: Tensor, block: Tensor) -> None:
    """Adds each row of a block to the total of its class; on CUDA in a fixed order, which `index_add_` has not."""
    if totals.device.type == "cpu":
        totals.index_add_(0, codes, block)
    else:
        totals.index_put_((codes,), block, accumulate=True)


def _column_squares(block: Tensor) -> Tensor:
    """Sum of the squares of each column, read once."""
    import torch

    if block.device.type != "cpu":
        return block.square().sum(0)
    array = block.numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        return torch.from_numpy(np.einsum("nd,nd->d", array, array))


def _gram(block: Tensor) -> Tensor:
    """block^T block in float64; NumPy's product of a matrix with itself does half the work of torch's on a CPU."""
    import torch

    if block.device.type != "cpu":
        return (block.T @ block).double()
    array = block.numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        return torch.from_numpy((array.T @ array).astype(np.float64))
