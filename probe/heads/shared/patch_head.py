"""Any head of classes on the places of maps: a patch is a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.maps import PixelRows, PlaceRows, places_of
from probe.heads.shared.base import AnyHead, FloatArray, Validation
from probe.heads.shared.dense_labels import check_masks, class_shares, drawn_pixels, pixel_counts

LABELS = ("majority", "soft", "pixel")
HELD_BYTES = 2**28
"""Rows of patches up to this size are held in memory; larger ones are read anew in every pass."""
LEAST = -1e30
"""For logits of minus infinity, of which interpolation would make no number."""


class PatchRows(AnyHead):
    """Base class of heads of rows that are fitted on the places of maps (N, C, h, w).

    A subclass has the parameter `head`, unfitted, of pooled features, and fits a clone of it as `head_`.

    Attributes:
        head_: The fitted head of the places; what `save` writes.
        patches_: What the record says of the places that it was fitted on.
    """

    consumes: ClassVar[tuple[str, ...]] = ("map",)
    head: Any
    head_: AnyHead

    @property
    def inner(self) -> AnyHead:
        """The head of the places."""
        found: AnyHead = self.head
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """How places become rows, as a run's determinants hold it."""
        return {"recipe": self.recipe}

    def with_inner(self, head: AnyHead, seed: int) -> Self:
        """The same with another head of the places, and another seed of what it draws."""
        raise NotImplementedError

    @property
    def selection_(self) -> dict[str, Any]:
        """What the head of the places searched, on places of which images, and what won."""
        found: dict[str, Any] = self.head_.selection_
        return found

    @selection_.setter
    def selection_(self, told: dict[str, Any]) -> None:
        self.head_.selection_ = told

    @property
    def log_probabilities(self) -> bool:  # type: ignore[override]
        """Whether logits are made to be such."""
        return self.inner.log_probabilities

    def only(self, candidate: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with which one candidate of a search is the only one."""
        return {"head": clone(self.inner).set_params(**self.inner.only(candidate))}

    def save(self, path: str | Path) -> None:
        """Writes the head of the places, which `Head.load` reads."""
        self.head_.save(path)


class PatchHead(PatchRows):
    """A head of one class per row, fitted on the places of maps (N, C, h, w), as a head of a class per pixel.

    The label of a place comes from the pixels that it covers: `majority` is the class of most of them; `soft` is that
    of one of them, drawn, which in expectation trains on their shares; `pixel` draws one too, and takes the features
    interpolated to it, so that in expectation a linear head minimises the loss of the pixels after interpolation.
    Places without a labelled pixel are left out.

    Logits (N, K, h, w) are those of its places; they are interpolated to pixels, not the features: that is the same
    for a linear head, and costs K channels in place of C.

    Args:
        head: Unfitted, of pooled features; it chooses on the places of the validation images.
        label: `majority`, `soft` or `pixel`.
        per_class: Of each training image and class at most so many places, drawn; None for all.
        random_state: Of these draws.

    Attributes:
        classes_: (K,) codes of the classes that some place has.
    """

    fits: ClassVar[tuple[str, ...]] = ("mask",)

    def __init__(self, head: Any = None, label: str = "majority", per_class: int | None = None, random_state: int = 0):
        self.head = head
        self.label = label
        self.per_class = per_class
        self.random_state = random_state

    @property
    def facts(self) -> dict[str, Any]:
        """How places become rows, as a run's determinants hold it."""
        return {"label": self.label, "per_class": self.per_class, "recipe": self.recipe}

    def with_inner(self, head: AnyHead, seed: int) -> Self:
        return type(self)(head, self.label, self.per_class, random_state=seed)

    def check_parameters(self) -> None:
        """Raises `InputError` for parameters that no data can be fitted with."""
        wrong = []
        if self.label not in LABELS:
            wrong.append(f"patches.label is {self.label!r}, expected one of {', '.join(LABELS)}")
        if self.per_class is not None and not self.per_class >= 1:
            wrong.append(f"patches.per_class is {self.per_class!r}, expected null or a whole number from 1")
        if wrong:
            raise InputError("; ".join(wrong) + ": change it")
        self.inner.check_parameters()

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits the head on the places of maps X (N, C, h, w) with masks y (N, H, W)."""
        self.check_parameters()
        X = self._check_rows(X, reset=True)
        rows, codes = self._rows(X, check_masks(y, len(X)), self.per_class)
        n_classes = len(np.unique(codes))
        if n_classes < 2:
            found = "no class" if not n_classes else f"one class only ({codes[0]})"
            raise InputError(
                f"the {len(codes)} patches that train have {found}, a head needs at least 2: give more images, a "
                "backbone or layer with a finer grid, or patches.label=soft"
            )
        chosen_on = None
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            masks = check_masks(validation[1], len(X_val), "the validation rows")
            chosen_on = self._rows(X_val, masks, None)
        self.head_ = clone(self.inner).fit(
            rows, codes, validation=chosen_on if chosen_on and len(chosen_on[1]) else None
        )
        self.classes_ = self.head_.classes_
        shown, _ = pixel_counts(y)
        self.patches_ = {
            "n": len(codes),
            "left_out": len(X) * int(np.prod(X.shape[2:])) - len(codes),
            "grid": [int(side) for side in X.shape[2:]],
            "classes_without": sorted(set(shown.tolist()) - set(self.classes_.tolist())),
        }
        return self

    def _rows(self, X: Any, masks: Any, per_class: int | None) -> tuple[Any, IntArray]:
        """Rows (n, C) of the places that have a label, and these."""
        grid, random = (int(X.shape[2]), int(X.shape[3])), np.random.default_rng(self.random_state)
        classes = pixel_counts(masks)[0] if self.label != "pixel" or per_class is not None else np.empty(0, np.int64)
        per_image = grid[0] * grid[1]
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2), np.float32))]
        for start in range(0, len(X) if len(classes) or self.label == "pixel" else 0, 64):
            places, codes, at = self._labelled(np.asarray(masks[start : start + 64]), grid, classes, random)
            if per_class is not None:
                groups = places // per_image * len(classes) + np.searchsorted(classes, codes)
                kept = _sample(groups, per_class, random)
                places, codes, at = places[kept], codes[kept], at[kept]
            found.append((start * per_image + places, codes, at))
        places, codes, at = (np.concatenate(parts) for parts in zip(*found, strict=True))
        rows = PixelRows(X, places // per_image, at) if self.label == "pixel" else PlaceRows(X, places)
        return held_in_memory(rows), codes

    def _labelled(
        self, masks: NDArray[Any], grid: tuple[int, int], classes: IntArray, random: np.random.Generator
    ) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
        """Places of some images, their classes, and where in the map they are looked at."""
        if self.label == "pixel":
            return drawn_pixels(masks, grid, random)
        shares = class_shares(masks, grid, classes).reshape(-1, len(classes))
        labels, places = self._labels(shares, random), np.flatnonzero(shares.any(1))
        return places, classes[labels[places]], np.empty((len(places), 2), np.float32)

    def _labels(self, shares: NDArray[np.float32], random: np.random.Generator) -> IntArray:
        """(n,) class of each place, from its shares (n, K)."""
        if self.label == "majority":
            return shares.argmax(1)
        sums = shares.cumsum(1)
        drawn = random.random(len(shares))[:, None] * sums[:, -1:]
        return np.minimum((sums <= drawn).sum(1), shares.shape[1] - 1)

    def _logits(self, X: NDArray[Any]) -> FloatArray:
        """(n, K, h, w) of a chunk of maps."""
        logits = np.maximum(self.head_.logits(places_of(X)), LEAST)
        return logits.reshape(len(X), *X.shape[2:], -1).transpose(0, 3, 1, 2)

    def logits(self, X: Any) -> FloatArray:
        """Logits (N, K, h, w) of the places of maps (N, C, h, w), classes in the order of `classes_`."""
        check_is_fitted(self, "head_")
        return self._in_chunks(X, self._logits)

    def predict(self, X: Any) -> NDArray[Any]:
        """(N, h, w) class of each place."""
        return self.classes_[self.logits(X).argmax(1)]


def held_in_memory(rows: Any) -> Any:
    """Rows of patches as an array where they are few enough; else as they are, read in chunks."""
    if len(rows) * rows.shape[1] * rows.dtype.itemsize > HELD_BYTES:
        return RowSubset(rows, np.arange(len(rows)))
    held = np.empty(rows.shape, rows.dtype)
    for chunk in row_chunks(rows):
        held[chunk] = rows[chunk]
    return held


def _sample(groups: IntArray, n: int, random: np.random.Generator) -> IntArray:
    """At most n of the members of each group, drawn, in ascending order."""
    order = random.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    _, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    return np.sort(order[rank < n])
