"""Image-text retrieval: how well images and their captions find each other in the space of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import check_finite
from probe.heads.shared.base import AnyHead, Validation, check_lazy
from probe.heads.shared.cross_ranks import cross_ranks
from probe.heads.shared.forecast import Forecast, Shapes
from probe.metrics.shared.scores.captions import CaptionScores


class CaptionRetrieval(AnyHead):
    """Looks for captions by the images of a dataset, and for images by their captions; nothing is fitted.

    Text retrieval: the captions are put in the order of their cosine with an image, which is right at k where any of
    its own is among the first k. Image retrieval: the images in the order of their cosine with a caption, which is
    right where its own is among them. All test images and all of their captions are looked through. Of equal cosines
    the row with the lower number comes first, in both directions. An image without captions asks for nothing and is
    only looked through; of equal captions of several images each has its own image alone, as in CLIP_benchmark.

    Metrics: `text_retrieval_recall_at_1`, `_5`, `_10`, `image_retrieval_recall_at_1`, `_5`, `_10`, and their
    `mean_recall`, with intervals for new images, whose captions come along.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
    arXiv 2103.00020; measures as in Karpathy and Fei-Fei, 2015, arXiv 1412.2306. Departure: none but the order of equal
    cosines, which others leave to the library.

    Args:
        text_features: (U, D) features of the different captions. A run fills it in from the backbone's text tower.
        caption_texts: (M,) which of these each caption is. A run fills it in.
        caption_rows: (M,) the test row of each caption, in ascending order. A run fills it in.
        device: Where cosines are computed; `auto` is CUDA when there is one.

    Attributes:
        n_features_in_: D.
    """

    fits: ClassVar[tuple[str, ...]] = ("captions",)
    reads_texts: ClassVar[bool] = True
    without_texts: ClassVar[str] = "another that has one"
    n_features_in_: int

    def __init__(
        self,
        text_features: ArrayLike | None = None,
        caption_texts: ArrayLike | None = None,
        caption_rows: ArrayLike | None = None,
        device: str = "auto",
    ):
        self.text_features = text_features
        self.caption_texts = caption_texts
        self.caption_rows = caption_rows
        self.device = device

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        """Nothing is fitted."""
        return Forecast(0, 0.0)

    def fit(self, X: Any, y: Any, *, validation: Validation | None = None) -> Self:
        """Looks at the width of the texts alone; rows take no part, and there need be none.

        Raises:
            InputError: No features of texts, or such that are not finite.
        """
        if self.text_features is None or self.caption_texts is None or self.caption_rows is None:
            raise InputError(
                "caption_retrieval has no text_features: run it with a backbone that has a text tower, or give (U, D) "
                "features with caption_texts and caption_rows"
            )
        texts = np.asarray(self.text_features)
        if texts.ndim != 2:
            raise InputError(f"text_features has shape {texts.shape}, expected (U, D): give a row for each text")
        check_finite(texts, "text_features")
        self.n_features_in_ = texts.shape[1]
        return self

    def measure(
        self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = "captions"
    ) -> Mapping[str, CaptionScores]:
        """Scores of the images X (N, D), of which y (N,) says how many captions each has.

        Raises:
            InputError: The captions are not those of these rows, or images and texts differ in width.
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        check_lazy(X)
        owners, texts = np.asarray(self.caption_rows), np.asarray(self.caption_texts)
        alike = len(y) == len(X) and len(texts) == len(owners)
        if not (alike and np.array_equal(owners, np.repeat(np.arange(len(X)), y))):
            raise InputError(
                f"caption_rows names rows of {len(owners)} captions, y has {int(np.sum(y))} of {len(X)} rows, expected "
                "the same in ascending order: give those of these rows"
            )
        if not len(owners):
            raise InputError(f"none of the {len(X)} test rows has a caption to be found: test on more rows")
        ranks = cross_ranks(X, np.asarray(self.text_features), texts, owners, device=self.device)
        return {"captions": CaptionScores.of(np.asarray(y), ranks[0], owners, ranks[1])}
