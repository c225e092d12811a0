"""Zero-shot classification: the class whose texts lie closest to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.text_head import TEMPLATES as TEMPLATES
from probe.heads.shared.text_head import TextHead, unit


class ZeroShot(TextHead):
    """Predicts the class whose texts point where the image points; learns nothing from the rows.

    With t_kj the unit feature of template j filled with the name of class k, and f the unit feature of an image, the
    logit of class k is f.m_k / temperature, where m_k is the mean of t_kj over j, at unit length. A run fills in
    `class_features` from the backbone's text tower; training rows say only which classes there are.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
    arXiv 2103.00020. Departure: the templates are ours, in the styles of those that were published with CLIP.

    Args:
        templates: `generic`, `cifar`, `imagenet`, or sentences of your own with `{}` for the name of the class.
        temperature: Positive; null is that of the model, and 0.01 where there is no model to ask.
        class_features: (K, D) one row per class of the dataset, of any length. A run fills it in.

    Attributes:
        coef_: (K, D) float32 class features of unit length over the temperature.
    """

    def __init__(
        self,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
    ):
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Keeps the features of the classes that are in y, codes into `class_features`."""
        self.check_parameters()
        self._check_texts()
        X, _ = self._check_fit(X, y)
        chosen = unit(self._features_of_classes(X.shape[1]))
        self.coef_ = (chosen / (self.temperature or 0.01)).astype(np.float32)
        return self

    def _logits(self, X: Any) -> FloatArray:
        return unit(np.asarray(X, dtype=np.float32)) @ self.coef_.T
