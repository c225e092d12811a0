"""Any head of numbers on the places of maps: a patch is a row."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from probe.core.errors import InputError
from probe.core.maps import PlaceRows, places_of
from probe.heads.shared.base import AnyHead, FloatArray, Validation
from probe.heads.shared.dense_labels import check_maps, place_means
from probe.heads.shared.patch_head import PatchRows, held_in_memory


class PatchNumbers(PatchRows):
    """A head of one number per row, fitted on the places of maps (N, C, h, w), as a head of a number per pixel.

    The number of a place is the mean over the labelled pixels that it covers; places without one are left out. What it
    says of places is interpolated to pixels: for a linear head that is the same as interpolating features.

    Args:
        head: Unfitted, of pooled features; it chooses on the places of the validation images.
    """

    fits: ClassVar[tuple[str, ...]] = ("number_map",)

    def __init__(self, head: Any = None):
        self.head = head

    def with_inner(self, head: AnyHead, seed: int) -> Self:
        return type(self)(head)

    def check_parameters(self) -> None:
        """Raises `InputError` for parameters that no data can be fitted with."""
        self.inner.for_target("number").check_parameters()

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits the head on the places of maps X (N, C, h, w) with numbers y (N, H, W), NaN where there is none."""
        self.check_parameters()
        X = self._check_rows(X, reset=True)
        rows, numbers = self._rows(X, check_maps(y, len(X)))
        if len(numbers) < 2:
            raise InputError(
                f"{len(numbers)} of the patches that train have a labelled pixel, a head needs at least 2: give more "
                "images, or a backbone or layer with a finer grid"
            )
        chosen_on = None
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            chosen_on = self._rows(X_val, check_maps(validation[1], len(X_val), "the validation rows"))
        self.head_ = clone(self.inner.for_target("number")).fit(
            rows, numbers, validation=chosen_on if chosen_on and len(chosen_on[1]) else None
        )
        grid = [int(side) for side in X.shape[2:]]
        self.patches_ = {"n": len(numbers), "left_out": len(X) * int(np.prod(grid)) - len(numbers), "grid": grid}
        return self

    def _rows(self, X: Any, maps: Any) -> tuple[Any, NDArray[np.float64]]:
        """Rows (n, C) of the places that have a labelled pixel, and their numbers."""
        grid = (int(X.shape[2]), int(X.shape[3]))
        parts = [place_means(np.asarray(maps[start : start + 64]), grid).ravel() for start in range(0, len(X), 64)]
        numbers = np.concatenate(parts)
        places = np.flatnonzero(np.isfinite(numbers))
        return held_in_memory(PlaceRows(X, places)), numbers[places]

    def number_maps(self, X: Any) -> FloatArray:
        """(N, h, w) numbers of the places of maps X (N, C, h, w)."""
        check_is_fitted(self, "head_")
        return self._in_chunks(X, self._numbers)

    def _numbers(self, X: NDArray[Any]) -> FloatArray:
        found: FloatArray = self.head_.predict(places_of(X)).reshape(len(X), *X.shape[2:])
        return found

    def predict(self, X: Any) -> FloatArray:
        """(N, h, w) number of each place."""
        return self.number_maps(X)
