"""What a fit will take, said beforehand: memory, and the products that most of its time goes into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]
"""Of one row, by kind."""
DOUBLE, SINGLE, HALF = 8, 4, 2


@dataclass(frozen=True)
class Forecast:
    """Of one fit.

    Attributes:
        bytes: That it takes at its peak, beside the rows, which are read from the disk; within a factor of 1.5.
        products: Multiplications of float32 numbers, those of float64 counted twice; nan where nobody knows. Time is a
            little longer than theirs.
        is_guess: Whether the head says nothing of itself.
    """

    bytes: int
    products: float = math.nan
    is_guess: bool = False


def of_rows(n_rows: int, shapes: Shapes) -> Forecast:
    """Of a head that says nothing of itself: all rows in float32, and as much for its work."""
    n_bytes = 2 * SINGLE * n_rows * sum(math.prod(shape) for shape in shapes.values())
    return Forecast(int(n_bytes), is_guess=True)


def of_moments(n_rows: int, width: int, n_classes: int, *, full: int = 0) -> Forecast:
    """Of a head that is made of `ClassMoments`.

    Args:
        n_rows, width, n_classes: Of the rows.
        full: (D, D) matrices of float64 that it has in work at once; 0 where it needs no second moments.
    """
    import torch

    n_threads = torch.get_num_threads()
    sums = DOUBLE * n_classes * width * (n_threads + 1)
    blocks = (PASS_BYTES if full else BLOCK_BYTES) * n_threads
    products = n_rows * width * (width if full else 1.0) + 2 * EIGEN_PRODUCTS * width**3 * bool(full)
    return Forecast(sums + blocks + DOUBLE * full * width**2, products)


def of_span(n_rows: int, width: int, n_classes: int) -> Forecast:
    """Of a head that works with products of its rows, which are far fewer than their features."""
    n_bytes = DOUBLE * (4 * n_rows * width + 4 * n_rows**2 + 4 * n_classes * width)
    return Forecast(n_bytes, 2.0 * n_rows**2 * (2 * width + EIGEN_PRODUCTS * n_rows))


BLOCK_BYTES, PASS_BYTES = 8 * 2**20, 64 * 2**20
"""Of the blocks of rows that one thread reads and converts, without and with second moments."""
EIGEN_PRODUCTS = 9
"""Of an eigendecomposition, in units of D^3."""
