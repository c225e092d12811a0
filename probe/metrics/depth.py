"""How near the numbers that are predicted for pixels, such as depths, come to the true ones.

With d true and p predicted at the labelled pixels of an image, and g = ln p - ln d:

    RMSE = sqrt(mean (p - d)^2)      AbsRel = mean |p - d| / d      delta_k = share with max(p / d, d / p) < 1.25^k
    RMSE log = sqrt(mean g^2)        log10 = mean |log10 p - log10 d|       SILog = sqrt(mean g^2 - (mean g)^2)

each of an image, within the range of the dataset, and averaged over the images, as the evaluations of BTS (Lee et al.
2019, arXiv 1907.10326), AdaBins (Bhat et al. 2020, arXiv 2011.14141), DINOv2 (Oquab et al. 2023, arXiv 2304.07193) and
probe3d (El Banani et al. 2024, arXiv 2404.08636) have it; an image counts the same however many of its pixels have a
label. `pixel_rmse` takes the root over all pixels of all images, as Eigen et al. (2014, arXiv 1406.2283) define it.

What is called aligned is of s p + t, with the scale and the shift of each image that bring it nearest to the truth (as
MiDaS does with inverse depths, Ranftl et al. 2019, arXiv 1907.01341): what is left once no unit and no zero are asked
for, which probe3d reports beside.

Pixels of an image are not independent, so intervals are for new images (or groups of these), on the scale where a
statistic is nearly normal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from probe.metrics.shared.influences import LOGARITHM, studentized
from probe.metrics.shared.intervals import FloatArray, Interval, between, sums_of_groups
from probe.metrics.shared.metric import OF_THE_TARGET, Metric, Statistic
from probe.metrics.shared.scores.number_map import NumberMapScores

OfImages = Callable[[NumberMapScores], FloatArray]
"""Values (N,) of the images."""


def mean(of_images: OfImages, scores: NumberMapScores) -> Statistic:
    """The mean over images."""
    values = of_images(scores)
    return float(values.mean()), (values - values.mean()) / len(values)


def image_rmse(scores: NumberMapScores) -> FloatArray:
    """Root of the mean squared error of each image."""
    found: FloatArray = np.sqrt(scores.mean("squared"))
    return found


def aligned_rmse(scores: NumberMapScores) -> FloatArray:
    """The same of s p + t, with the scale and the shift of least squares in each image."""
    found: FloatArray = np.sqrt(scores.mean("aligned_squared"))
    return found


def rmse_log(scores: NumberMapScores) -> FloatArray:
    """Root of the mean squared error of natural logarithms."""
    found: FloatArray = np.sqrt(scores.mean("log_squared"))
    return found


def silog(scores: NumberMapScores) -> FloatArray:
    """Standard deviation of ln p - ln d in each image, which one factor for all of its numbers leaves as it is."""
    found: FloatArray = np.sqrt(np.maximum(scores.mean("log_squared") - scores.mean("log") ** 2, 0.0))
    return found


def pixel_rmse(scores: NumberMapScores) -> Statistic:
    """Root of the mean squared error of all pixels, and its derivative by the weight of each image."""
    squares, pixels = scores.mean("squared"), scores.labels[:, 1]
    value = float(np.sqrt(np.average(squares, weights=pixels)))
    return value, pixels * (squares - value**2) / (2 * max(value, np.finfo(float).tiny) * pixels.sum())


def _positive(scores: NumberMapScores) -> bool:
    return scores.positive


def _error(name: str, of_images: OfImages, unit: str = "", shown: bool = False) -> Metric:
    """An error, of images whose numbers are above 0 unless it has their unit."""

    def interval(scores: NumberMapScores, means: FloatArray, seed: int) -> Interval:
        return studentized(*mean(of_images, scores), scores.groups, LOGARITHM)

    return Metric(name=name, targets=("number_map",), per_row=of_images, interval=interval, better="lower", unit=unit,
                  suits=(lambda scores: True) if unit == OF_THE_TARGET else _positive, shown=shown, needs=KEPT,
                  tolerance=1e-6)  # fmt: skip


def _share(name: str) -> Metric:
    """A share of the pixels."""

    def of_images(scores: NumberMapScores) -> FloatArray:
        return scores.mean(name)

    def interval(scores: NumberMapScores, means: FloatArray, seed: int) -> Interval:
        value, slopes = mean(of_images, scores)
        parts = sums_of_groups(slopes[:, None], scores.groups)[:, 0]
        return between(value, parts, float(len(parts)), float(len(parts)))

    return Metric(name=name, targets=("number_map",), per_row=of_images, interval=interval, unit="%", proportion=True,
                  suits=_positive, needs=KEPT, tolerance=1e-6)  # fmt: skip


KEPT = ("label", "errors")
METRICS = (
    _error("image_rmse", image_rmse, OF_THE_TARGET, shown=True),
    Metric(name="pixel_rmse", targets=("number_map",), of_all=pixel_rmse, better="lower", unit=OF_THE_TARGET,
           needs=KEPT, tolerance=1e-6,
           interval=lambda scores, means, seed: studentized(*pixel_rmse(scores), scores.groups, LOGARITHM)),
    _error("abs_rel", lambda scores: scores.mean("relative")),
    _share("delta_1"),
    _share("delta_2"),
    _share("delta_3"),
    _error("rmse_log", rmse_log),
    _error("log10", lambda scores: scores.mean("log10")),
    _error("silog", silog),
    _error("aligned_rmse", aligned_rmse, OF_THE_TARGET),
    _error("aligned_abs_rel", lambda scores: scores.mean("aligned_relative")),
    _share("aligned_delta_1"),
)  # fmt: skip
