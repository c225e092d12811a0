"""Measures of features without any label, each with its derivative by the weight of every row.

f_n are N rows of D features; statistics of the spectrum are functions of the eigenvalues l of the mean of f f', or of
the covariance. An eigenvalue with direction v moves by (v.f_n)^2 - l as row n gains weight, which is all that a
statistic's derivative needs beside its own gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Statistic

FLOOR = 1e-13
"""Eigenvalues below this share of the largest are rounding: no statistic moves with them."""


def rank_me(values: Tensor, eps: float = 1e-7) -> Tensor:
    """exp of the entropy of the singular values sqrt(l) as shares p + eps of their sum, of rows as they are.

    Garrido, Balestriero, Najman, LeCun, "RankMe: Assessing the downstream performance of pretrained self-supervised
    representations by their rank", 2023, arXiv 2210.02885.
    """
    return entropy_rank(values.sqrt(), eps)


def entropy_rank(values: Tensor, eps: float = 1e-7) -> Tensor:
    """exp of the entropy of values as shares p + eps of their sum; of a covariance, the other published RankMe."""
    p = values / values.sum() + eps
    return (-(p * p.log()).sum()).exp()


def power_law(values: Tensor, first: int = 10, last: int = 100) -> Tensor:
    """alpha of l_i ~ i^-alpha, by least squares in logarithms over ranks first + 1 .. last, rank i with weight 1 / i.

    Agrawal, Mondal, Ghosh, Richards, "alpha-ReQ: Assessing representation quality in self-supervised learning by
    measuring eigenspectrum decay", 2022. Over all ranks where there are not twice as many as `first`.
    """
    n = int((values > FLOOR * values[0]).sum())
    chosen = slice(first, min(last, n)) if n >= 2 * first else slice(0, n)
    ranks, span = torch.arange(1, len(values) + 1, dtype=values.dtype)[chosen], values[chosen]
    x, weights = ranks.log(), 1 / ranks
    x = x - (weights * x).sum() / weights.sum()
    return -(weights * x * span.log()).sum() / (weights * x**2).sum().clamp(min=1e-300)


def nesum(values: Tensor) -> Tensor:
    """Sum of the eigenvalues over the largest. He and Ozay, "Exploring the gap between collapsed and whitened features
    in self-supervised learning", 2022."""
    return values.sum() / values[0]


UNCENTRED: dict[str, Callable[[Tensor], Tensor]] = {"rankme": rank_me}
CENTRED: dict[str, Callable[[Tensor], Tensor]] = {
    "rankme_of_covariance": entropy_rank, "alpha_req": power_law, "nesum": nesum,
}  # fmt: skip


@dataclass
class Moments:
    """Mean (D,) and covariance (D, D) of rows, one pass over them.

    Attributes:
        n: Rows.
        mean: Of them.
        covariance: With 1 / n.
    """

    n: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, chunks: Iterable[FloatArray]) -> Moments:
        n, shift = 0, torch.zeros(0)
        total = product = torch.zeros(0)
        for chunk in chunks:
            rows = torch.from_numpy(np.asarray(chunk, dtype=np.float64))
            if not n:
                shift = rows.mean(0)
                total, product = torch.zeros_like(shift), torch.diag(torch.zeros_like(shift))
            rows = rows - shift
            total += rows.sum(0)
            product += rows.T @ rows
            n += len(rows)
        offset = total / n
        return cls(n, shift + offset, product / n - torch.outer(offset, offset))


class Spectra:
    """Statistics of the spectra of rows, from their moments, and from a second pass what each row has in them."""

    def __init__(self, moments: Moments):
        self.mean, self.n = moments.mean, moments.n
        raw = moments.covariance + torch.outer(moments.mean, moments.mean)
        self.values: dict[str, float] = {}
        self._parts: list[tuple[bool, Tensor, Tensor, Tensor]] = []
        for centred, matrix, functions in ((False, raw, UNCENTRED), (True, moments.covariance, CENTRED)):
            eigenvalues, directions = (part.flip(-1) for part in torch.linalg.eigh(matrix))
            eigenvalues = eigenvalues.clamp(min=0)
            gradients = []
            for name, function in functions.items():
                value, gradient = value_and_gradient(function, eigenvalues)
                self.values[name] = value
                gradients.append(gradient)
            self._parts.append((centred, eigenvalues, directions, torch.stack(gradients, 1)))

    def slopes(self, rows: FloatArray) -> FloatArray:
        """(n, S) derivatives by the weights of some rows, in the order of `values`."""
        given = torch.from_numpy(np.asarray(rows, dtype=np.float64))
        found = []
        for centred, eigenvalues, directions, gradients in self._parts:
            seen = (given - self.mean if centred else given) @ directions
            found.append((seen.square() - eigenvalues) @ gradients / self.n)
        slopes: FloatArray = torch.cat(found, 1).numpy()
        return slopes


def value_and_gradient(function: Callable[[Tensor], Tensor], values: Tensor) -> tuple[float, Tensor]:
    """Of a function of eigenvalues, descending; no part of those that are zero but for rounding."""
    if not values[0] > 0:
        return math.nan, torch.zeros_like(values)
    least = FLOOR * float(values[0])
    given = values.clamp(min=least * 1e-6).requires_grad_()
    value = function(given)
    (gradient,) = torch.autograd.grad(value, given)
    return value.item(), torch.where(values > least, gradient, 0.0)


def two_nn(rows: FloatArray) -> Statistic:
    """Intrinsic dimension: 1 over the mean of log(r2 / r1), r1 and r2 the distances of a row's two nearest.

    Facco, d'Errico, Rodriguez, Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", 2017, arXiv 1803.06992, its maximum-likelihood form. Rows that another one equals take no part.
    """
    X = torch.from_numpy(np.asarray(rows, dtype=np.float64))
    ratios = torch.full((len(X),), torch.nan, dtype=torch.float64)
    for part in torch.arange(len(X)).split(512):
        distances = torch.cdist(X[part], X, compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(part)), part] = torch.inf
        nearest = distances.topk(min(2, len(X) - 1), largest=False).values
        if nearest.shape[1] == 2:
            ratios[part] = torch.where(nearest[:, 0] > 0, (nearest[:, 1] / nearest[:, 0]).log(), torch.nan)
    counted = ~ratios.isnan()
    mean = float(ratios[counted].mean())
    if not counted.any() or mean == 0:
        return math.nan, np.zeros(len(X))
    slopes = torch.where(counted, (mean - ratios) / mean**2, 0.0) / counted.sum()
    return 1 / mean, slopes.numpy()


def uniformity(rows: FloatArray) -> Statistic:
    """log of the mean over pairs of exp(-2 |u - v|^2), u and v rows of unit length.

    Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", 2020, arXiv 2005.10242.
    """
    X = torch.nn.functional.normalize(torch.from_numpy(np.asarray(rows, dtype=np.float64)), dim=1)
    own = torch.cat([torch.exp(4 * (part @ X.T).clamp(max=1) - 4).sum(1) for part in X.split(512)])
    means = (own - 1) / (len(X) - 1)
    mean = means.mean()
    return float(mean.log()), (2 * (means - mean) / mean / len(X)).numpy()


def alignment(views: FloatArray) -> Statistic:
    """Mean squared distance between views (n, V, D) of the same row at unit length; Wang and Isola, 2020, as above."""
    units = torch.nn.functional.normalize(torch.from_numpy(np.asarray(views, dtype=np.float64)), dim=2)
    n_views = units.shape[1]
    # Over all pairs: |u - v|^2 sums to V sum |u|^2 - |sum u|^2.
    squares = n_views * units.square().sum((1, 2)) - units.sum(1).square().sum(1)
    values = squares / (n_views * (n_views - 1) / 2)
    return float(values.mean()), ((values - values.mean()) / len(values)).numpy()


def lidar(views: FloatArray, delta: float = 1e-4, eps: float = 1e-8) -> Statistic:
    """Entropy rank of the discriminants of rows as classes, of which the views (n, V, D) are members.

    With B the covariance of the rows' means and W the mean covariance of views about these plus delta I, it is exp of
    the entropy of the eigenvalues of W^-1/2 B W^-1/2, with eps added to each, as shares of their sum. Thilak et al.,
    "LiDAR: Sensing linear probing performance in joint embedding SSL architectures", 2023, arXiv 2312.04000, as
    stable-pretraining has it.
    """
    X = torch.from_numpy(np.asarray(views, dtype=np.float64))
    n, n_views, width = X.shape
    means = X.mean(1)
    off, within = means - means.mean(0), X - means[:, None]
    between = off.T @ off / (n - 1)
    spread = within.flatten(0, 1).T @ within.flatten(0, 1) / (n * (n_views - 1))
    values, vectors = torch.linalg.eigh(spread + delta * torch.eye(width, dtype=X.dtype))
    root = vectors / values.sqrt() @ vectors.T
    eigenvalues, directions = (part.flip(-1) for part in torch.linalg.eigh(root @ between @ root))
    value, gradient = value_and_gradient(lambda v: entropy_rank(v + eps, 0.0), eigenvalues.clamp(min=0))
    directions = root @ directions
    of_between = (off @ directions).square() * n / (n - 1)
    of_within = (within @ directions).square().sum(1) / (n_views - 1)
    moves = of_between - of_between.mean(0) - eigenvalues * (of_within - of_within.mean(0))
    return value, (moves @ gradient / n).numpy()


def spread_out(statistic: Statistic, places: Any, n: int) -> Statistic:
    """The statistic of a sample of rows, its derivative as one of all n."""
    slopes = np.zeros(n)
    slopes[places] = statistic[1]
    return statistic[0], slopes
