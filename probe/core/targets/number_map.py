"""Maps of numbers: a real number, such as a depth, for each pixel of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.targets import Codes, Target
from probe.core.targets.mask import percent
from probe.core.targets.number import Number, Numbers


class NumberMaps(Protocol):
    """Maps of N images, read one at a time when asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """(H, W) numbers of the pixels of an image, at its own size; NaN where a pixel is unlabelled."""
        ...

    def rows(self, indices: Codes) -> NumberMaps:
        """Those of some of the images."""
        ...


@runtime_checkable
class HasNumberMaps(Protocol):
    """A partition whose images have maps; its `labels` are (N, 2), see `NumberMap`."""

    @property
    def number_maps(self) -> NumberMaps: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class NumberMap(Target):
    """Each pixel of an image has one real number, or none; a head says one for each.

    `labels` of a partition are (N, 2) float64, of each image the mean over its labelled pixels and how many these are;
    the pixels themselves are its `number_maps`. Rows are images for all that draws, counts and resamples; draws
    stratify by the mean.

    Attributes:
        unit: Of the numbers, for display; empty where it is not said.
        least, most: Numbers outside have no label, and predictions are clipped to this range before they are scored;
            None for no bound.
    """

    name: ClassVar[str] = "number_map"
    phrase: ClassVar[str] = "a number per pixel"
    ignored_phrase: ClassVar[str] = "without a labelled pixel"
    per_pixel: ClassVar[bool] = True
    even: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    constant_head: ClassVar[str] = "mean"
    least_names: ClassVar[int] = 1

    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def positive(self) -> bool:
        """Whether every number is above 0, so that ratios and logarithms of them mean something."""
        return self.least is not None and self.least > 0

    def clipped(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Predictions within the range."""
        bounded = self.least is not None or self.most is not None
        return np.clip(numbers, self.least, self.most) if bounded else numbers

    def held(self, labels: ArrayLike) -> Numbers:
        """As float64."""
        return np.asarray(labels, dtype=np.float64)

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Images all of whose pixels are unlabelled."""
        found: NDArray[np.bool_] = labels[:, 1] == 0
        return found

    def expected(self, class_names: Sequence[str]) -> str:
        """Labelled pixels to learn from, whose numbers differ."""
        return (
            "a name and two numbers or more among the labelled pixels of train: mend its maps, or say how they are "
            "read with dataset.scale=... dataset.invalid=... dataset.min=... dataset.max=..."
        )

    def name_faults(self, class_names: Sequence[str]) -> list[str]:
        """The numbers have one name."""
        return [] if len(class_names) == 1 else [f"its numbers are named {', '.join(class_names) or 'nothing'}"]

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the means and the labelled pixels of a partition."""
        if labels.ndim != 2 or labels.shape[1] != 2 or labels.dtype.kind != "f" or not (labels[:, 1] >= 0).all():
            return [f"{part} has labels of {labels.dtype} and shape {labels.shape}, not mean and pixels of each image"]
        if not len(labels):
            return [f"{part} has no image with a labelled pixel"]
        odd = np.flatnonzero(~np.isfinite(labels[:, 0]))
        return [f"{part} has {len(odd)} images without a finite mean, the first is row {odd[0]}"] if len(odd) else []

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """Up to ten shares of the images by their means, as those of numbers."""
        return Number().strata(labels[:, 0], None if train is None else train[:, 0])

    def strata_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Shares of the images, the smallest means first."""
        return Number().strata_names(class_names)

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(1,) images with a labelled pixel."""
        return np.array([np.sum(labels[:, 1] > 0)], dtype=np.int64)

    @property
    def facts(self) -> dict[str, Any]:
        """The unit and the range."""
        bounded = self.least is not None or self.most is not None
        unit = {"units": [self.unit]} if self.unit else {}
        return unit | ({"range": [self.least, self.most]} if bounded else {})

    def described(self, labels: NDArray[Any], class_names: Sequence[str]) -> tuple[str, str, str]:
        """The name with its unit, and the means of the images."""
        means, unit = labels[:, 0], f" ({self.unit})" if self.unit else ""
        spread = f"{means.min():.4g} to {means.max():.4g}, median {np.median(means):.4g}"
        return f"a number per pixel: {class_names[0]}{unit}", "image means", spread

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """A run keeps mean and labelled pixels of each image."""
        whole = labels.ndim == 2 and labels.shape[1] == 2 and bool(np.isfinite(labels).all())
        return "" if whole else "are not mean and labelled pixels of each image"

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """The mean of the image, with its unit."""
        mean, pixels = np.ravel(label)
        return f"{class_names[0]} {f'{mean:.4g} {self.unit}'.strip()} over {int(pixels):,} pixels"


def unlabelled_share(labels: NDArray[Any], n_pixels: float) -> str:
    """How much of some images has no label, as people read it.

    Args:
        labels: (N, 2) mean and labelled pixels.
        n_pixels: All pixels of these images.
    """
    return percent(1 - float(labels[:, 1].sum()) / n_pixels)


def labels_of(numbers: NDArray[Any]) -> tuple[float, int]:
    """Mean and count of the labelled pixels of a map (H, W); a mean of 0 where there is none."""
    known = numbers[np.isfinite(numbers)]
    return (float(known.mean(dtype=np.float64)), len(known)) if len(known) else (0.0, 0)
