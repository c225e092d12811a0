"""Rows of features as a solver wants them: scaled, centred and rotated into the eigenbasis of their covariance."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.core.arrays import RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.device import budget, resident_rows
from probe.core.errors import InputError
from probe.core.magnitudes import too_large
from probe.core.terminal import passing
from probe.heads.shared.head import FloatArray

HOLD_BYTES = 4 * 2**30
"""Rotated rows up to this size are held in memory; larger ones are read again, chunk by chunk, in every pass."""
HOLD_PART = 4
"""Of the memory that a GPU has free, rows may take one part in so many."""
SUMMED_ROWS = 64
"""Rows whose sum is taken in their own precision."""
SCALINGS = ("none", "standard", "l2")


def scale_rows(X: FloatArray, scaling: str) -> FloatArray:
    """Divides each row by its Euclidean norm where `scaling` is `l2`; a row of zeros stays."""
    if scaling != "l2":
        return X
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(norms > 0, norms, 1)


def read_rows(X: Any, rows: slice, dtype: torch.dtype, device: str, scaling: str = "none") -> Tensor:
    """A chunk of an array or tensor as a tensor of its own; `l2` scaling is applied, as it depends on the row alone."""
    if isinstance(X, Tensor):
        chunk = X[rows].to(dtype, copy=True)
    else:
        chunk = torch.from_numpy(np.array(X[rows])).to(device).to(dtype)  # fewer bytes travel than converted here
    return to_unit_length_(chunk) if scaling == "l2" else chunk


def to_unit_length_(rows: Tensor) -> Tensor:
    """Divides each row by its Euclidean norm, in place; a row of zeros stays."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.div_(torch.where(norms > 0, norms, 1))


class EigenRows:
    """Scaled and centred rows in the eigenbasis of their covariance.

    An orthogonal basis moves no L2-penalised optimum, and neither does centring where the intercept is free. With
    fewer rows than features, the basis spans the rows only, which is exact as well: an optimum is a sum of rows.
    Solvers gain three times: the covariance is diagonal (a preconditioner), N < D problems shrink to N columns, and
    rounding to bfloat16 is relative to the spread along each direction, so that weak directions keep their digits.

    Attributes:
        eigenvalues: (R,) of the covariance, descending.
        n_rows: N, over all ranks where they share the rows (see `shared`).
        held: Whether the rotated rows are in memory; if not, chunks come unrotated and `enter` and `leave` rotate
            the coefficients instead.
    """

    def __init__(self, X: Any, *, scaling: str = "none", device: str = "cpu"):
        if scaling not in SCALINGS:
            raise InputError(f"scaling is {scaling!r}, expected one of {', '.join(SCALINGS)}: choose one of these")
        self._X, self._scaling, self._device = X, scaling, device
        resident = resident_rows({"X": X}, device)
        self._source: Any = resident.tensors["X"] if resident else X
        self.dtype = torch.float64 if X.dtype == np.float64 else torch.float32
        self.n_features = X.shape[1]
        self.n_rows = int(self._summed(torch.tensor(len(X), device=device)))
        covariance = self._moments()
        values, vectors, rotated = self._few_rows() if covariance is None else (*torch.linalg.eigh(covariance), None)
        self.eigenvalues = self._agreed(values.flip(0).clamp(min=0).to(self.dtype))
        self._basis = self._agreed(vectors.flip(1))
        self.rank = len(self.eigenvalues)
        self.held = len(X) * self.rank * self.dtype.itemsize <= hold_bytes(device)
        self._rows: Tensor | None = None
        self._coarse_rows: Tensor | None = None
        if self.held:
            self._rows = self._rotated() if rotated is None else rotated.flip(1).to(self.dtype)
            self._source = X
            if self.dtype == torch.float32 and fast_bfloat16(self._device):
                self._coarse_rows = self._rows.to(torch.bfloat16)

    def _summed(self, tensor: Tensor) -> Tensor:
        """Over all ranks that share the rows."""
        return tensor

    def _agreed(self, tensor: Tensor) -> Tensor:
        """One for all ranks."""
        return tensor

    def _moments(self) -> Tensor | None:
        """Sets mean and scale; returns the (D, D) covariance of the scaled rows where N >= D, or they are shared."""
        wide = len(self._X) == self.n_rows < self.n_features
        total = torch.zeros(self.n_features, dtype=torch.float64, device=self._device)
        squares = torch.zeros_like(total)
        product = None if wide else torch.diag(torch.zeros_like(total))
        shift: Tensor | None = None
        for rows in passing(row_chunks(self._X), len(self._X)):
            chunk = read_rows(self._source, rows, self.dtype, self._device, self._scaling)
            shift = self._agreed(chunk.mean(0)) if shift is None else shift
            chunk -= shift
            total += _column_sums(chunk)
            if self._scaling == "standard":
                squares += _column_sums(chunk.square())
            if product is not None:
                product += chunk.T @ chunk
        assert shift is not None
        total, squares = self._summed(total), self._summed(squares)
        product = None if product is None else self._summed(product)
        offset = total / self.n_rows
        self._mean = shift.double() + offset
        self._scale = torch.ones_like(offset)
        if self._scaling == "standard":
            variance = (squares / self.n_rows - offset**2).clamp(min=0)
            # A constant column has a variance of rounding errors: it is left as it is.
            constant = variance <= (10 * torch.finfo(self.dtype).eps * self._mean.abs()) ** 2
            self._scale = torch.where(constant, 1, variance.sqrt())
        if product is None:
            return None
        covariance = product / self.n_rows - torch.outer(offset, offset)
        covariance /= torch.outer(self._scale, self._scale)
        if not torch.isfinite(covariance).all():
            raise too_large()
        return covariance

    def _few_rows(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Eigenvalues (R,), ascending, and basis (D, R) of fewer rows than features; the rotated rows where known.

        The inner products of the rows give all three at the least cost, but square the ratio of large to small: where
        this would leave few digits of a direction, a QR decomposition of the rows gives the first two.
        """
        centred = self._read(slice(0, self.n_rows), torch.float64)
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        values, vectors = values[1:], vectors[:, 1:]  # centring leaves one direction empty
        if len(values) and values[0] > 1e-10 * values[-1]:
            lengths = values.sqrt()
            return values / self.n_rows, centred.T @ (vectors / lengths), vectors * lengths
        span, upper = torch.linalg.qr(centred.T)
        values, vectors = torch.linalg.eigh(upper @ upper.T / self.n_rows)
        return values, span @ vectors, None

    def _read(self, rows: slice, dtype: torch.dtype) -> Tensor:
        chunk = read_rows(self._source, rows, dtype, self._device, self._scaling)
        chunk -= self._mean.to(dtype)
        if self._scaling == "standard":
            chunk /= self._scale.to(dtype)
        return chunk

    def _rotated(self) -> Tensor:
        basis = self._basis.to(self.dtype)
        rotated = torch.empty(len(self._X), self.rank, dtype=self.dtype, device=self._device)
        for rows in passing(row_chunks(self._X), len(self._X)):
            torch.mm(self._read(rows, self.dtype), basis, out=rotated[rows])
        return rotated

    def subset(self, places: IntArray) -> EigenRows:
        """Some of the rows, which are held, in the same basis: centred and scaled with all of them.

        The eigenvalues stay those of all rows, about those of any part that was drawn from them: they only
        precondition.
        """
        assert self._rows is not None
        part = copy.copy(self)
        part._X, part.n_rows = RowSubset(self._X, places), len(places)
        first = int(places[0])
        in_order = np.array_equal(places, np.arange(first, first + len(places)))
        where = slice(first, first + len(places)) if in_order else torch.as_tensor(places, device=self._device)
        part._rows = self._rows[where]
        part._coarse_rows = None if self._coarse_rows is None else self._coarse_rows[where]
        return part

    def slices(self, n_rows: int) -> Iterator[slice]:
        """Slices of at most `n_rows` rows that cover all rows in order, of this rank."""
        for start in range(0, len(self._X), n_rows):
            yield slice(start, min(start + n_rows, len(self._X)))

    def chunk(self, rows: slice) -> Tensor:
        """Centred rows, rotated if they are held."""
        return self._read(rows, self.dtype) if self._rows is None else self._rows[rows]

    @property
    def coarse_dtype(self) -> torch.dtype:
        """In which what only preconditions may be multiplied."""
        return self.dtype if self._coarse_rows is None else self._coarse_rows.dtype

    def coarse_chunk(self, rows: slice) -> Tensor:
        """The same in bfloat16, where that is held: enough for a Hessian, whose errors cost steps but no accuracy."""
        return self.chunk(rows) if self._coarse_rows is None else self._coarse_rows[rows]

    def enter(self, coef: Tensor) -> Tensor:
        """(K, R) coefficients in the eigenbasis as (K, .) ones that multiply the chunks."""
        return coef if self.held else coef @ self._basis.to(coef.dtype).T

    def leave(self, gradient: Tensor) -> Tensor:
        """(K, .) sums of chunk rows as (K, R) ones in the eigenbasis."""
        return gradient if self.held else gradient @ self._basis.to(gradient.dtype)

    def unrotate(self, theta: Tensor) -> tuple[FloatArray, FloatArray]:
        """(K, R + 1) coefficients and intercepts in the eigenbasis as (K, D) and (K,) ones for rows as given."""
        theta = theta.double()
        coef = theta[:, :-1] @ self._basis.T / self._scale
        return coef.cpu().numpy(), (theta[:, -1] - coef @ self._mean).cpu().numpy()

    def rotate(self, coef: FloatArray, intercept: FloatArray) -> Tensor:
        """The inverse of `unrotate`: (K, R + 1), last column the intercepts of the centred rows."""
        W = torch.as_tensor(coef, dtype=torch.float64, device=self._device)
        b = torch.as_tensor(intercept, dtype=torch.float64, device=self._device) + W @ self._mean
        return torch.cat([(W * self._scale) @ self._basis, b[:, None]], dim=1).to(self.dtype)


def hold_bytes(device: str) -> int:
    """The largest size of rows that are held on a device."""
    return budget(device, HOLD_BYTES, HOLD_PART)


def fast_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def _column_sums(rows: Tensor) -> Tensor:
    """(D,) in float64 of rows (n, D), which are widened a few at a time: to widen all takes many times as long."""
    n_parts = len(rows) // SUMMED_ROWS
    whole = n_parts * SUMMED_ROWS
    few = rows[:whole].unflatten(0, (n_parts, SUMMED_ROWS)).sum(1)
    return few.sum(0, dtype=torch.float64) + rows[whole:].sum(0, dtype=torch.float64)
