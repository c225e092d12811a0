"""Exact nearest neighbours, in one pass over rows that may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.heads.shared.moments import ClassMoments
from probe.heads.shared.one_pass import one_thread_each

if TYPE_CHECKING:
    from torch import Tensor

    from probe.heads.shared.nearest_block import Block

METRICS = ("cosine", "euclidean")
BLOCKS = {"cpu": (512, 8192), "cuda": (4096, 32768)}
"""Queries and rows whose product is made at once; on a CPU it stays in the cache while it is looked through."""
SPARE = 16
"""Rows beyond those asked for that are measured again, since rounding may have changed their order."""
PAIRS = {"cpu": 128, "cuda": 2**18}
"""Of queries and rows that are measured again at once."""


ORDER_VALUES = 2**25
"""Rows that are put into order at once, over all queries."""


@dataclass(frozen=True)
class Found:
    """The nearest rows of each query, the nearest first, of equally near ones the row with the lowest number.

    Attributes:
        rows: (n, k) their numbers.
        nearness: (n, k) cosines, or Euclidean distances with a minus.
    """

    rows: IntArray
    nearness: NDArray[np.floating[Any]]

    def without(self, own: IntArray) -> Found:
        """One neighbour fewer: without the query itself, whose number is `own` (n,).

        Where it is not there, for equal rows before it, these are one fewer.
        """
        kept = self.rows != own[:, None]
        kept[kept.all(axis=1), -1] = False
        shape = (len(own), self.rows.shape[1] - 1)
        return Found(self.rows[kept].reshape(shape), self.nearness[kept].reshape(shape))


class Neighbours:
    """Rows (N, D) among which the nearest of any query are found, by cosine or by Euclidean distance.

    With z a row less the mean of all, q.x and |q - x|^2 follow from z_q.z_x and terms of one row each: one product
    serves both metrics, and keeps its digits where the mean is large beside the spread. What scores highest is measured
    again, as the sum of squared differences (for cosines those of rows at unit length), so that equal rows are equally
    near, and at distance 0 from themselves. All products have one shape, of blocks that are filled up: a product of
    another shape may round otherwise. Computed in float32, of float64 rows in float64. A row of zeros has cosine 0 with
    every other. What is near a query that is not finite is NaN.

    Args:
        X: The rows, read block by block.
        centre: (D,) mean of the rows, where it is known.
        spread: Root mean square distance of the rows from it.
        device: Where distances are computed.
    """

    def __init__(self, X: Any, centre: NDArray[Any] | None = None, spread: float | None = None, *, device: str = "cpu"):
        import torch

        self.X = X
        if centre is None or spread is None:
            moments = ClassMoments(1, X.shape[1], second="diagonal").update(X, np.zeros(len(X), dtype=np.int64))
            centre, spread = moments.mean, float(np.sqrt(moments.total().sum() / moments.n_rows))
        self.centre, self.spread = centre, spread
        # A power of two, which rounds nothing.
        self._scale = 2.0 ** -round(float(np.log2(spread))) if spread > 0 else 1.0
        dtype = torch.float64 if X.dtype == np.float64 else torch.float32
        self._centre = torch.as_tensor(centre, device=resolve_device(device)).to(dtype)
        self._n_queries, n_rows = BLOCKS[self._centre.device.type]
        self._n_rows = min(n_rows, -(-len(X) // 32) * 32)

    def nearest(self, queries: Any, k: int, metrics: Sequence[str] = METRICS) -> dict[str, Found]:
        """The k nearest rows of each query (n, D), by each of the metrics; all rows where k is larger."""
        from probe.heads.shared.nearest_block import Best

        asked = self._block(queries, -(-len(queries) // self._n_queries) * self._n_queries)
        odd = asked.set_aside_odd()
        shared, n_kept = list(metrics) != ["cosine"], min(k + SPARE, len(self.X))
        best = {metric: Best(len(asked.z), n_kept, asked.z) for metric in metrics}
        parts = [slice(first, first + self._n_queries) for first in range(0, len(asked.z), self._n_queries)]
        n_workers, rooms = self._rooms(len(parts), self._n_queries, self._n_rows)
        with _each(n_workers) as each:
            for start, block in self._blocks():

                def work(worker: int, start: int = start, block: Block = block) -> None:
                    product, room = rooms[worker]
                    for part in parts[worker::n_workers]:
                        product.addmm_(asked.factor(metrics)[part], block.factor(metrics).T, beta=0)
                        for metric in metrics:
                            scores = block.scores(product, asked, part, metric, room if shared else None)
                            best[metric].take(part, scores, start)

                each(work)

            def settle(worker: int) -> None:
                for one in best.values():
                    for part in parts[worker::n_workers]:
                        one.settle(part)

            each(settle)
        found = {metric: self._measured(asked, best.pop(metric).kept(asked.n), k, metric) for metric in metrics}
        for one in found.values():
            one.nearness[odd] = np.nan
        return found

    def _rooms(self, n_parts: int, *shape: int) -> tuple[int, list[list[Tensor]]]:
        """How many threads share the parts of a work, and memory for two arrays of a shape for each."""
        import torch

        n = max(1, min(torch.get_num_threads(), n_parts)) if self._centre.device.type == "cpu" else 1
        return n, [[self._centre.new_empty(shape) for _ in range(2)] for _ in range(n)]

    def orders(self, queries: Any, metric: str) -> Iterator[tuple[slice, IntArray]]:
        """All rows in the order of their nearness to each query, (n, N), for some queries after the others.

        As the products give it: rows whose distances differ by less than these round may change places, those of equal
        scores stand by number.
        """
        import torch

        n = max(1, min(self._n_queries, ORDER_VALUES // len(self.X)))
        for start in range(0, len(queries), n):
            part = slice(start, min(start + n, len(queries)))
            asked = self._block(queries[part], n)
            scores = []
            for _, block in self._blocks():
                product = asked.factor([metric]) @ block.factor([metric]).T
                room = None if metric == "cosine" else torch.empty_like(product)
                scores.append(block.scores(product, asked, slice(0, n), metric, room)[: asked.n, : block.n].clone())
            yield part, torch.cat(scores, dim=1).argsort(dim=1, descending=True, stable=True).cpu().numpy()

    def _block(self, X: Any, n_filled: int) -> Block:
        from probe.heads.shared.nearest_block import Block

        return Block(X, self._centre, self._scale, n_filled)

    def _blocks(self) -> Iterator[tuple[int, Block]]:
        """All rows in blocks of one shape, each with the number of its first row."""
        for rows in row_chunks(self.X, 4 * self._n_rows * self.X.shape[1]):
            yield rows.start, self._block(self.X[rows], self._n_rows)

    def _measured(self, asked: Block, rows: Tensor, k: int, metric: str) -> Found:
        """The k nearest of the candidates (n, c), after measuring each pair by itself."""
        import torch

        flat, order = rows.flatten().sort()
        distances, queries = asked.z.new_empty(len(flat)), asked.placed(metric)
        size = PAIRS[distances.device.type]
        n_workers, rooms = self._rooms(len(flat) // size, size, queries.shape[1])
        with _each(n_workers) as each:
            for start, block in self._blocks():
                ends = torch.tensor([start, start + block.n], device=flat.device)
                own = slice(*torch.searchsorted(flat, ends).tolist())
                row, query = flat[own] - start, order[own] // rows.shape[1]
                found = distances.new_empty(len(row))

                def work(
                    worker: int, block: Block = block, row: Tensor = row, query: Tensor = query, found: Tensor = found
                ) -> None:
                    for first in range(worker * size, len(row), n_workers * size):
                        pairs = slice(first, first + size)
                        found[pairs] = block.distances(row[pairs], asked, query[pairs], metric, rooms[worker])

                each(work)
                if metric == "cosine":  # rows of zeros stand apart
                    found.masked_fill_(block.zero[row] | asked.zero[query], 2**0.5)
                distances[order[own]] = found
        rows, by_row = rows.sort(dim=1)
        distances, by_distance = distances.view(rows.shape).gather(1, by_row).sort(dim=1, stable=True)
        rows, distances = rows.gather(1, by_distance)[:, :k], distances[:, :k]
        nearness = 1 - distances.square() / 2 if metric == "cosine" else -distances / self._scale
        return Found(rows.cpu().numpy(), nearness.cpu().numpy())


@contextmanager
def _each(n_workers: int) -> Iterator[Callable[[Callable[[int], None]], list[None]]]:
    """A function that calls another once in each of some threads, and waits for all.

    Each thread does torch's work alone: none waits for the others after each small step, and products round alike
    however many threads there are.
    """
    if n_workers == 1:
        with one_thread_each(1):
            yield lambda work: list(map(work, range(1)))
        return
    with one_thread_each(n_workers), ThreadPoolExecutor(n_workers) as pool:
        yield lambda work: list(pool.map(work, range(n_workers)))
