"""A linear head of the places of a map for the depth of each pixel: bins between the nearest and the farthest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from probe.core.errors import InputError
from probe.heads.shared.dense_loss import silog_loss
from probe.heads.shared.dense_numbers import DenseNumbers
from probe.heads.shared.dense_training import PlaceWeights, Standardised
from probe.heads.shared.module_solver import Batch

SPACINGS = ("uniform", "log")
WEIGHTS = ("linear", "softmax")
FLOOR = 0.1
"""Added to the weights of all bins, so that each place has some."""


class DenseDepth(DenseNumbers):
    """Batch normalisation and a 1 x 1 convolution to bins of depth, whose expected value is interpolated to the pixels.

    The linear head of DINOv2's evaluation on depth (Oquab et al., "DINOv2: Learning Robust Visual Features without
    Supervision", 2023, arXiv 2304.07193), with the bins of AdaBins (Bhat et al., 2020, arXiv 2011.14141) at fixed
    places: the depth of a place is sum_k p_k c_k, c_k the middles of `bins` equal parts of the range, p_k =
    (relu(z_k) + 0.1) / sum_j (relu(z_j) + 0.1) with linear logits z, or their softmax. With `bins=0` it is a plain
    regression, relu(z) + least. The loss is the scale-invariant one of logarithms (Eigen et al. 2014) over the labelled
    pixels of a batch, see `silog_loss`; features are never interpolated, one channel of depths is.

    Departures: features are normalised by their statistics over all training places, the CLS token is not put beside
    them and they are not enlarged first; bins are the middles of parts, and on a logarithmic scale lie between the ends
    (DINOv2's code takes these for exponents of 10); the bias starts at the shares of the training pixels in the bins,
    so that small learning rates start from the mean; there is no loss of gradients.

    Args:
        bins: Parts of the range; 0 for a plain regression.
        spacing: `uniform`, or `log` for parts of equal ratio.
        weights: `linear`, or `softmax`.
        min_depth, max_depth: The range; by default that of the training pixels.
        variance_focus: Of the loss, from 0 to 1: 1 ignores a common factor of all depths.
        lrs: Learning rates of AdamW, trained side by side; each rises over a tenth of the steps and falls along a half
            cosine to 0.
        epochs: Passes over the images.
        batch_size: Images per step.
        weight_decay: Of the coefficients.
        refit: Whether the chosen learning rate is trained again on training and validation images.
        random_state: Seeds the start, the batches and, without validation images, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        shares_: (K,) of the training pixels in the parts.
        start_: The mean of the training pixels.
    """

    warmup: ClassVar[float] = 0.1

    def __init__(
        self,
        bins: int = 256,
        spacing: str = "uniform",
        weights: str = "linear",
        min_depth: float | None = None,
        max_depth: float | None = None,
        variance_focus: float = 0.85,
        lrs: Sequence[float] = (0.01, 0.03, 0.1, 0.3),
        epochs: int = 12,
        batch_size: int = 50,
        weight_decay: float = 0.0001,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.bins = bins
        self.spacing = spacing
        self.weights = weights
        self.min_depth = min_depth
        self.max_depth = max_depth
        self.variance_focus = variance_focus
        self.lrs = lrs
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def _wrong_parameters(self) -> list[str]:
        wrong = super()._wrong_parameters()
        if not (isinstance(self.bins, int) and not isinstance(self.bins, bool) and self.bins >= 0):
            wrong.append(f"bins is {self.bins!r}, expected a whole number from 0")
        for name, known in (("spacing", SPACINGS), ("weights", WEIGHTS)):
            if getattr(self, name) not in known:
                wrong.append(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if not (isinstance(self.variance_focus, int | float) and 0 <= self.variance_focus <= 1):
            wrong.append(f"variance_focus is {self.variance_focus!r}, expected a share from 0 to 1")
        low, high = self.min_depth, self.max_depth
        numbers = [0.0, *(end for end in (low, high) if end is not None)]
        finite = all(isinstance(end, int | float) and np.isfinite(end) for end in numbers)
        if not finite or any(a >= b for a, b in itertools.pairwise(numbers)):
            wrong.append(f"min_depth is {low!r} and max_depth {high!r}, expected 0 < min_depth < max_depth")
        return wrong

    def _check_pixels(self, y: ArrayLike, n_images: int, what: str = "y") -> Any:
        """The maps, whose loss is one of logarithms; those that validate are trained on in the end."""
        pixels = super()._check_pixels(y, n_images, what)
        for some in _labelled(pixels):
            if not (least := float(some.min())) > 0:
                raise InputError(
                    f"{'the maps that train' if what == 'y' else what} have a number of {least:.4g}, which has no "
                    "logarithm, head dense_depth wants numbers above 0: set dataset.min=0.001, or choose a head of "
                    "numbers on patches, such as head=ridge"
                )
        return pixels

    def _look(self, pixels: Any) -> None:
        least, most, total, n = np.inf, -np.inf, 0.0, 0
        for some in _labelled(pixels):
            least, most = min(least, float(some.min())), max(most, float(some.max()))
            total, n = total + float(some.sum(dtype=np.float64)), n + len(some)
        if not n:
            raise InputError("the maps that train have no labelled pixel, expected some: train on more images")
        self.least_ = least if self.min_depth is None else float(self.min_depth)
        self.most_ = most if self.max_depth is None else float(self.max_depth)
        if not self.least_ < self.most_:
            raise InputError(
                f"the range of the head is {self.least_:.4g} to {self.most_:.4g}, expected two depths: set "
                "head.min_depth and head.max_depth around the depths of the training images"
            )
        self.start_ = float(np.clip(total / n, self.least_, self.most_))
        edges, counts = self._edges(), np.zeros(max(self.bins, 1))
        for some in _labelled(pixels) if self.bins else ():
            counts += np.histogram(some.clip(edges[0], edges[-1]), edges)[0]
        self.shares_ = counts / max(counts.sum(), 1)

    def _edges(self) -> NDArray[np.float64]:
        """(K + 1,) ends of the parts."""
        spaced = np.geomspace if self.spacing == "log" else np.linspace
        edges: NDArray[np.float64] = spaced(self.least_, self.most_, max(self.bins, 1) + 1)
        edges[0], edges[-1] = self.least_, self.most_
        return edges

    def _centres(self) -> NDArray[np.float64]:
        """(K,) middles of the parts, of those of equal ratio the geometric ones."""
        low, high = self._edges()[:-1], self._edges()[1:]
        found: NDArray[np.float64] = np.sqrt(low * high) if self.spacing == "log" else (low + high) / 2
        return found

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return silog_loss(outputs[:, 0], labels, self.variance_focus)

    def _module(self) -> nn.Module:
        norm = Standardised(self.mean_, self.scale_)
        if not self.bins:
            return _Regression(norm, self.start_ - self.least_, self.least_)
        softmax, scaled = self.weights == "softmax", self.bins * self.shares_
        bias = np.log(scaled + FLOOR) if softmax else scaled
        return _Bins(norm, torch.as_tensor(bias, dtype=torch.float32), torch.as_tensor(self._centres()), softmax)


def _labelled(pixels: Any) -> Any:
    """The labelled numbers of some images after the other."""
    for start in range(0, len(pixels), 64):
        some = np.asarray(pixels[start : start + 64])
        if len(known := some[np.isfinite(some)]):
            yield known


class _Linear(PlaceWeights):
    """{"map": (B, C, h, w)} -> linear outputs (B, h w, K) of the places, and their grid."""

    def linear(self, batch: Batch) -> tuple[Tensor, Sequence[int]]:
        maps = self.norm(batch["map"])
        return functional.linear(maps.flatten(2).transpose(1, 2), self.weight, self.bias), maps.shape[2:]


class _Regression(_Linear):
    def __init__(self, norm: Standardised, start: float, least: float):
        super().__init__(norm, torch.full((1,), start))
        self.least = least

    def forward(self, batch: Batch) -> Tensor:
        z, grid = self.linear(batch)
        return (z.relu() + self.least).transpose(1, 2).unflatten(2, grid)


class _Bins(_Linear):
    places: Tensor

    def __init__(self, norm: Standardised, bias: Tensor, places: Tensor, softmax: bool):
        super().__init__(norm, bias)
        self.softmax = softmax
        self.register_buffer("places", places.float())

    def forward(self, batch: Batch) -> Tensor:
        z, grid = self.linear(batch)
        if self.softmax:
            depths = z.softmax(2) @ self.places
        else:  # both sums at once, without the weights themselves
            n_bins = len(self.places)
            above, below = (z.relu() @ torch.stack([self.places, torch.ones_like(self.places)], 1)).unbind(2)
            depths = (above + FLOOR * self.places.sum()) / (below + FLOOR * n_bins)
        return depths.unsqueeze(1).unflatten(2, grid)
