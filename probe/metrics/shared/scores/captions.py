"""Scores of images and their captions, each looked for among all of the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray

AT = (1, 5, 10)
"""Ranks down to which something counts as found."""


@dataclass(frozen=True)
class CaptionScores:
    """Of N images with captions.

    Attributes:
        labels: (N,) captions of each.
        text_rank: (N,) rank, from 0, of the nearest of its captions among all captions; -1 for an image without any.
        image_hits: (N, 3) captions of each that find it among the first 1, 5 and 10 images.
    """

    target: ClassVar[str] = "captions"

    labels: IntArray
    text_rank: IntArray
    image_hits: IntArray
    logits: None = None

    @classmethod
    def of(cls, labels: IntArray, text_rank: IntArray, owners: IntArray, image_rank: IntArray) -> CaptionScores:
        """From the rank of the own image (M,) of each caption, whose image `owners` (M,) says.

        Args:
            labels, text_rank: As above.
            owners: Numbers of the images, 0..N-1.
            image_rank: From 0.
        """
        hits = [np.bincount(owners[image_rank < k], minlength=len(labels)) for k in AT]
        return cls(labels, text_rank, np.stack(hits, axis=1).astype(np.int64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps."""
        return {"label": self.labels, "text_rank": self.text_rank, "image_hits": self.image_hits}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> CaptionScores:
        """From what a run kept."""
        return cls(arrays["label"], arrays["text_rank"], arrays["image_hits"])
