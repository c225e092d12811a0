"""A run without a head and without labels: how many directions the features use, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import refuse_non_finite
from probe.core.lazy import all_views
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.metrics.features import FeatureScores
from probe.metrics.shared.metric import Statistic
from probe.metrics.shared.spectra import Moments, Spectra, alignment, lidar, spread_out, two_nn, uniformity


class Unlabelled(Head):
    """Measures the features of the test rows, predicts nothing, and looks at no label and no training row.

    `rankme` of the rows as they are, and `rankme_of_covariance`, the other published definition under that name, which
    centres them and squares singular values; `alpha_req`, the decay of the spectrum, best near 1; `nesum`;
    `intrinsic_dimension` (TwoNN) and `uniformity`, of at most `n_sample` rows, evenly spaced. From several views of
    each row (`views.n`) also `lidar` and `alignment`, of as many rows. Equations and sources stand in
    `probe.metrics.shared.spectra`. Intervals are for new rows. Rows are read twice, in chunks: for their moments, and
    for the part that each has in what follows from these.

    Args:
        n_sample: Rows for what looks at pairs of them, or at their views.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels")
    reads_unknown: ClassVar[bool] = True

    def __init__(self, n_sample: int = 5000):
        self.n_sample = n_sample

    def check_parameters(self) -> None:
        if not self.n_sample >= 3 or int(self.n_sample) != self.n_sample:
            raise InputError(f"n_sample is {self.n_sample!r}, expected a whole number from 3: change it")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Learns the width of the rows."""
        self.check_parameters()
        self.width_ = self._check_rows(X, reset=True).shape[1]
        return self

    def measure(
        self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = "one_class"
    ) -> Mapping[str, FeatureScores]:
        """Measures of the rows X (n, D); labels y and groups take no part."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        if len(X) < 3:
            raise InputError(f"{len(X)} test rows have no spectrum, expected at least 3: test on more rows")
        places = np.unique(np.linspace(0, len(X) - 1, min(self.n_sample, len(X))).astype(np.int64))
        sample: list[NDArray[np.float64]] = []
        spectra = Spectra(Moments.of(_sampled(X, places, sample)))
        slopes = np.concatenate([spectra.slopes(np.asarray(X[rows], dtype=np.float64)) for rows in row_chunks(X)])
        found: dict[str, Statistic] = {
            name: (value, slopes[:, i]) for i, (name, value) in enumerate(spectra.values.items())
        }
        chosen = np.concatenate(sample)
        found |= {"intrinsic_dimension": two_nn(chosen), "uniformity": uniformity(chosen)}
        if (views := all_views(X)) is not None:
            seen = np.asarray(RowSubset(views, places)[:], dtype=np.float64)
            found |= {"lidar": lidar(seen), "alignment": alignment(seen)}
        spread = {n: spread_out(s, places, len(X)) if len(s[1]) < len(X) else s for n, s in found.items()}
        return {"features": FeatureScores(target, np.asarray(y), spread)}

    def _logits(self, X: Any) -> FloatArray:
        raise InputError(
            "head unlabelled measures features and predicts nothing: choose a head that is fitted, such as knn"
        )


def _sampled(X: Any, places: IntArray, sample: list[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """Chunks of the rows, which are finite; those at the places are kept as they pass."""
    for rows in row_chunks(X):
        chunk = np.asarray(X[rows], dtype=np.float64)
        refuse_non_finite(chunk, rows.start)
        inside = places[(places >= rows.start) & (places < rows.start + len(chunk))] - rows.start
        sample.append(chunk[inside])
        yield chunk
