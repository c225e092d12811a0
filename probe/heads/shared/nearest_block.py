"""Blocks of rows as products are made of them, and the best scores so far: the inner loops of `neighbours`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE = 32
"""Scores whose largest is looked at before any of them is."""


class Block:
    """Some rows less a centre, times a scale, filled up with zeros to `n_filled` rows.

    Attributes:
        z: (n_filled, D).
        n: How many of them are rows.
    """

    def __init__(self, X: Any, centre: Tensor, scale: float, n_filled: int):
        self.n, self._middle = len(X), centre * scale
        self.z = torch.zeros(n_filled, X.shape[1], dtype=centre.dtype, device=centre.device)
        # Read-only memory, which torch warns about, is copied.
        self.rows.copy_(torch.from_numpy(np.require(X, requirements=["C", "W"]))).sub_(centre).mul_(scale)

    @property
    def rows(self) -> Tensor:
        """(n, D) those of `z` that are no filling."""
        return self.z[: self.n]

    def set_aside_odd(self) -> NDArray[np.bool_]:
        """(n,) marks rows that are not finite, which are zeros from here on."""
        odd = ~torch.isfinite(self.rows.sum(dim=1))
        self.rows[odd] = 0.0
        found: NDArray[np.bool_] = odd.cpu().numpy()
        return found

    @cached_property
    def unit(self) -> Tensor:
        """(n_filled, D) the rows where they were, at unit length; a row of zeros stays one, as do fillings."""
        moved = self.z + self._middle
        if "_inverse" not in vars(self):
            self._inverse = self._inverse_of(moved)
        return moved.mul_(self._inverse[:, None])

    @cached_property
    def _inverse(self) -> Tensor:
        """(n_filled,) of the lengths, 0 for rows of zeros and fillings."""
        return self._inverse_of(self.z + self._middle)

    def _inverse_of(self, moved: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(moved, dim=1)
        return torch.where(lengths > 0, 1 / lengths, 0.0).masked_fill_(self._filling, 0.0)

    @cached_property
    def zero(self) -> Tensor:
        """(n,) marks the rows of zeros."""
        return self._inverse[: self.n] == 0

    @cached_property
    def _along(self) -> Tensor:
        """(n_filled,) z.m, with m where the centre is."""
        return self.z @ self._middle

    @cached_property
    def _cosine(self) -> tuple[Tensor, Tensor]:
        """(n_filled,) what is added to a product of z, and what the sum is multiplied with; -inf of fillings."""
        return self._without_filling(self._along), self._inverse.masked_fill(self._filling, 1.0)

    @cached_property
    def _euclidean(self) -> Tensor:
        """(n_filled,) what is added to a product of z; -inf of fillings."""
        return self._without_filling(self.z.square().sum(dim=1).div_(-2))

    @cached_property
    def _filling(self) -> Tensor:
        return torch.arange(len(self.z), device=self.z.device) >= self.n

    def _without_filling(self, terms: Tensor) -> Tensor:
        return terms.masked_fill(self._filling, -torch.inf)

    def factor(self, metrics: Sequence[str]) -> Tensor:
        """(n_filled, D) what products are made of: rows at unit length where nothing but cosines is asked for."""
        return self.unit if list(metrics) == ["cosine"] else self.z

    def scores(self, product: Tensor, queries: Block, part: slice, metric: str, room: Tensor | None) -> Tensor:
        """(q, n_filled) what orders the rows for each query: q.x / |x|, or q.x - |x|^2 / 2 about the centre.

        Args:
            product: Of the `factor` of the queries of a part and of these rows.
            queries: All of them.
            part: Those of the product.
            metric: `cosine` or `euclidean`.
            room: Memory for the result; None where products are cosines.
        """
        if room is None:
            product[:, self.n :] = -torch.inf
            return product
        if metric == "euclidean":
            return torch.add(product, self._euclidean, out=room)
        add, factor = self._cosine
        own = queries._along[part] + self._middle @ self._middle
        return torch.add(product, add, out=room).add_(own[:, None]).mul_(factor)

    def placed(self, metric: str) -> Tensor:
        """(n_filled, D) the rows between which distances are those of a metric."""
        return self.z if metric == "euclidean" else self.unit

    def distances(self, row: Tensor, queries: Block, query: Tensor, metric: str, room: list[Tensor]) -> Tensor:
        """(p,) Euclidean distance of pairs of a row and a query, at unit length for cosines.

        Summed over differences: equal rows are at distance 0.
        """
        ours, theirs = (memory[: len(row)] for memory in room)
        torch.index_select(self.placed(metric), 0, row, out=ours)
        torch.index_select(queries.placed(metric), 0, query, out=theirs)
        return torch.linalg.vector_norm(ours.sub_(theirs), dim=1)


class Best:
    """The highest scores so far of each query and the rows that have them, of equal ones those of lower numbers.

    The first k columns stand in order, best first, since the last time that a query's were sorted; behind them wait,
    in the order of the rows, scores that exceed the k-th of these. A sort for each block of rows would cost as much as
    a tenth of its product.

    Attributes:
        values: (n, width) scores.
        rows: (n, width) numbers of their rows.
    """

    def __init__(self, n_queries: int, k: int, like: Tensor):
        width = k + max(1, k // 2)
        self.k, self.values = k, torch.full((n_queries, width), -torch.inf, dtype=like.dtype, device=like.device)
        self.rows = torch.full((n_queries, width), -1, dtype=torch.int64, device=like.device)
        self._ends = torch.full((n_queries,), k, device=like.device)

    def take(self, part: slice, scores: Tensor, first_row: int) -> None:
        """Takes in scores (q, n) of the queries of a part with rows from `first_row` on, all of them later ones.

        Most scores lie in tiles whose largest is no better than the worst that is kept, and are never looked at.
        """
        values, rows, ends, k = self.values[part], self.rows[part], self._ends[part], self.k
        n, width = values.shape
        tiles = scores.view(n, -1, TILE)
        largest = tiles.amax(dim=2)
        bar = values[:, k - 1].clone()
        if largest.shape[1] >= k and bool(torch.isinf(bar).any()):
            # As many scores as tiles reach the smallest of the largest: what lies below is none of the best k.
            enough = largest.topk(k, dim=1).values[:, -1]
            bar = torch.maximum(bar, torch.nextafter(enough, torch.full_like(enough, -torch.inf)))
        query, tile = (largest > bar[:, None]).nonzero(as_tuple=True)
        if not len(query):
            return
        within = tiles[query, tile]
        pair, place = (within > bar[query, None]).nonzero(as_tuple=True)
        query = query[pair]
        counts = torch.bincount(query, minlength=n)
        order = torch.arange(len(query), device=query.device) + (ends - counts.cumsum(0) + counts)[query]
        found, numbers = within[pair, place], first_row + tile[pair] * TILE + place
        needed = int((ends + counts).max())
        if needed <= width:
            values[query, order], rows[query, order] = found, numbers
            ends += counts
            return
        wider = torch.full((n, needed), -torch.inf, dtype=values.dtype, device=values.device)
        wider_rows = torch.full_like(wider, -1, dtype=torch.int64)
        wider[:, :width], wider_rows[:, :width] = values, rows
        wider[query, order], wider_rows[query, order] = found, numbers
        self._sort(part, wider, wider_rows)

    def kept(self, n_queries: int) -> Tensor:
        """(n_queries, k) rows of the first queries, which have been settled."""
        return self.rows[:n_queries, : self.k].contiguous()

    def settle(self, part: slice) -> None:
        """Puts the best k of the queries of a part into order."""
        self._sort(part, self.values[part], self.rows[part])

    def _sort(self, part: slice, values: Tensor, rows: Tensor) -> None:
        ordered, by = values.sort(dim=1, descending=True, stable=True)
        self.rows[part, : self.k] = rows.gather(1, by[:, : self.k])
        self.values[part, : self.k] = ordered[:, : self.k]
        self.values[part, self.k :] = -torch.inf
        self._ends[part] = self.k
