"""Principal directions of training rows at unit variance, as a step ahead of a distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.heads.shared.moments import ClassMoments, Float64Array, eigenbasis


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of length 1; those of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


@dataclass(frozen=True)
class Whitening:
    """x -> sign(z) |z|^power of z = unit((unit(x) - mean) V / sqrt(l)), V and l principal directions and variances.

    Source: Razavian et al., "CNN Features off-the-shelf", 2014, arXiv 1403.6382, with power 2.

    Attributes:
        mean: (D,) of the training rows at unit length.
        directions: (D, R) V / sqrt(l), of the R largest variances.
        power: Of each component.
    """

    mean: Float64Array
    directions: Float64Array
    power: float = 1.0

    @classmethod
    def of(cls, X: Any, n_directions: int, power: float, device: str = "cpu") -> Whitening:
        """That of rows (N, D), which may be larger than memory."""
        moments = ClassMoments(1, X.shape[1], second="full", unit_rows=True, device=device)
        moments.update(X, np.zeros(len(X), dtype=np.int64))
        variances, directions = eigenbasis(moments.total() / moments.n_rows, moments.rounding)
        if len(variances) < n_directions:
            raise InputError(
                f"whiten={n_directions} asks for more principal directions than the {len(variances)} that {len(X)} "
                f"training rows of {X.shape[1]} features span: set it to at most {len(variances)}"
            )
        largest = slice(len(variances) - n_directions, None)
        return cls(moments.mean, (directions[:, largest] / np.sqrt(variances[largest]))[:, ::-1].copy(), power)

    def __call__(self, X: Any) -> NDArray[Any]:
        """(n, R) rows whitened, in memory; the first direction is that of the largest variance."""
        z = unit((unit(np.asarray(X, dtype=np.float64)) - self.mean) @ self.directions)
        return (np.sign(z) * np.abs(z) ** self.power).astype(np.float64 if X.dtype == np.float64 else np.float32)


class Whitened:
    """Rows of an array, whitened when they are asked for; looks like an array to the heads."""

    def __init__(self, array: Any, whitening: Whitening):
        self.array, self.whitening = array, whitening
        self.dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        self.shape, self.ndim = (len(array), whitening.directions.shape[1]), 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return self.whitening(self.array[key])
