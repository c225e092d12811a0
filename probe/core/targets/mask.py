"""Masks: a class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from probe.core.targets import Codes, Target
from probe.core.words import counted

IGNORED_PIXEL = 255
"""Code of pixels without a label in masks of bytes; those of more than 255 classes have 65535 in two bytes.

No code of a class reaches it, so that `mask < n_classes` marks the labelled pixels of both."""
N_SHOWN = 4


def mask_dtype(n_classes: int) -> DTypeLike:
    """Whole numbers that hold all codes and, as their largest, that of pixels without a label."""
    return np.uint8 if n_classes <= IGNORED_PIXEL else np.uint16


class Masks(Protocol):
    """Masks of N images, decoded one at a time when asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> NDArray[Any]:
        """(H, W) codes 0..K-1 of the pixels of an image, at its own size; see `IGNORED_PIXEL`."""
        ...

    def rows(self, indices: Codes) -> Masks:
        """Those of some of the images."""
        ...


@runtime_checkable
class HasMasks(Protocol):
    """A partition whose images have masks; its `labels` are (N, K) pixels of each class in each image."""

    @property
    def masks(self) -> Masks: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Mask(Target):
    """Each pixel of an image has one of K classes; a head says one for each.

    `labels` of a partition are (N, K) int64, the labelled pixels of each class in each image; the pixels themselves
    are its `masks`. Rows are images for all that draws, counts and resamples.

    Attributes:
        ignored_codes: What the files hold where a pixel is not to be counted.
        background: The class that is no object, left out of `f1_foreground`; None where every class is one.
    """

    name: ClassVar[str] = "mask"
    phrase: ClassVar[str] = "a class per pixel"
    ignored_phrase: ClassVar[str] = "without a labelled pixel"
    shows_several: ClassVar[bool] = True
    per_pixel: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True

    ignored_codes: tuple[int, ...] = ()
    background: int | None = None

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Images all of whose pixels are ignored."""
        found: NDArray[np.bool_] = labels.reshape(len(labels), -1).sum(axis=1) == 0
        return found

    def expected(self, class_names: Sequence[str]) -> str:
        """Pixels of every class to learn from."""
        return (
            f"at least 2 classes, codes from 0 to {max(len(class_names) - 1, 1)} and training pixels of every class: "
            "mend its masks, add images of such classes, or leave these out of the class names and ignore their codes"
        )

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the pixels of a partition; each class has some in train."""
        n_classes = len(class_names)
        if labels.ndim != 2 or labels.shape[1] != n_classes or labels.dtype.kind not in "iu" or (labels < 0).any():
            return [f"{part} has labels of {labels.dtype} and shape {labels.shape}, not pixels of {n_classes} classes"]
        if not len(labels):
            return [f"{part} has no rows"]
        lacking = np.flatnonzero(labels.sum(axis=0) == 0)
        if part != "train" or not len(lacking):
            return []
        names = ", ".join(class_names[k] for k in lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        return [
            f"train ({counted(len(labels), 'image')}) has no pixel of {len(lacking)} of {n_classes} classes ({names})"
        ]

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """The class of each image that the fewest training images show."""
        order = np.argsort(((labels if train is None else train) > 0).sum(axis=0), kind="stable")
        found: Codes = order[(labels[:, order] > 0).argmax(axis=1)].astype(np.int64)
        return found

    def shown_classes(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Those that have a pixel."""
        found: NDArray[np.bool_] = labels > 0
        return found

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(K,) images that show each class."""
        found: Codes = self.shown_classes(labels).sum(axis=0)
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """The ignored codes, and the background."""
        ignored = {"ignored_codes": list(self.ignored_codes)} if self.ignored_codes else {}
        return ignored | ({} if self.background is None else {"background": self.background})

    def described(self, labels: NDArray[Any], class_names: Sequence[str]) -> tuple[str, str, str]:
        """The share of the labelled pixels that each class has."""
        shares = pixel_shares(labels)
        parts = ", ".join(f"{name} {percent(share)}" for name, share in zip(class_names, shares, strict=True))
        return f"masks of {len(class_names)} classes", "train pixels", parts

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """A run keeps the labelled pixels of each class in each image."""
        whole = labels.ndim == 2 and labels.shape[1] == n_classes and bool((labels >= 0).all())
        return "" if whole else f"are no pixels of {n_classes} classes per row"

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """The classes of the image, those with most of its pixels first."""
        shares = pixel_shares(np.asarray(label)[None])
        order = [int(k) for k in np.argsort(-shares, kind="stable") if shares[k] > 0]
        parts = [f"{class_names[k]} {percent(shares[k])}" for k in order[:N_SHOWN]]
        return ", ".join(parts) + (", ..." if len(order) > N_SHOWN else "")


def pixel_shares(labels: NDArray[Any]) -> NDArray[np.float64]:
    """(K,) share of each class of the labelled pixels of some images, from (N, K) pixels of each."""
    counts = labels.sum(axis=0, dtype=np.float64)
    shares: NDArray[np.float64] = counts / max(counts.sum(), 1.0)
    return shares


def percent(share: float) -> str:
    """As people read it, with two digits where it is small."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"
