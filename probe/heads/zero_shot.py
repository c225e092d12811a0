"""Zero-shot classification: the class whose texts lie closest to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Head, Validation

_ARTICLES = ("a", "the")
_QUALITIES = ("small", "blurry", "dark", "bright", "low-resolution", "black and white")
_VIEWS = ("close-up", "cropped", "good", "bad", "clean", "large", "cluttered", *_QUALITIES)
_MEDIA = ("drawing", "painting", "sketch", "sculpture", "toy", "rendering", "cartoon", "logo", "tattoo")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "generic": ("a photo of a {}.",),
    "cifar": (
        *(f"a photo of {article} {{}}." for article in _ARTICLES),
        *(f"a {quality} photo of {article} {{}}." for quality in _QUALITIES for article in _ARTICLES),
    ),
    "imagenet": (
        *(f"a photo of {article} {{}}." for article in (*_ARTICLES, "one", "my", "many")),
        *(f"a {view} photo of {article} {{}}." for view in _VIEWS for article in _ARTICLES),
        *(f"a {medium} of {article} {{}}." for medium in _MEDIA for article in _ARTICLES),
        "a {} seen from far away.",
        "a {} indoors.",
        "a {} outdoors.",
        "a {} in a video game.",
    ),
}
"""Sentences by style; `{}` stands for the name of a class."""


class ZeroShot(Head):
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

    reads_texts: ClassVar[bool] = True

    def __init__(
        self,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
    ):
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features

    def prompts(self, class_names: Sequence[str]) -> list[list[str]]:
        """The texts of each class; underscores in names become spaces."""
        self.check_parameters()
        given = self.templates
        sentences = TEMPLATES[given] if isinstance(given, str) else given
        return [[sentence.replace("{}", name.replace("_", " ")) for sentence in sentences] for name in class_names]

    def check_parameters(self) -> None:
        given, wrong = self.templates, []
        if isinstance(given, str) and given not in TEMPLATES:
            wrong.append(f"templates is {given!r}, expected {', '.join(TEMPLATES)}, or a list of sentences with {{}}")
        if not isinstance(given, str):
            odd = [t for t in given if not isinstance(t, str) or t.count("{}") != 1]
            if odd or not given:
                wrong.append(f"templates holds {odd[0] if odd else None!r}, expected sentences with one {{}} each")
        if self.temperature is not None and not self.temperature > 0:
            wrong.append(f"temperature is {self.temperature!r}, expected a positive number or null")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Keeps the features of the classes that are in y, codes into `class_features`."""
        self.check_parameters()
        if self.class_features is None:
            raise InputError(
                "zero_shot has no class_features: run it with a backbone that has a text tower, or give (K, D) features"
            )
        X, _ = self._check_fit(X, y)
        features = np.asarray(self.class_features, dtype=np.float64)
        known = np.isin(self.classes_, np.arange(len(features)))
        if features.ndim != 2 or features.shape[1] != X.shape[1] or not known.all():
            raise InputError(
                f"class_features has shape {features.shape}, expected one row of width {X.shape[1]} for each class "
                f"code in y (up to {self.classes_[-1]}): give features of the same model and of all classes"
            )
        chosen = _unit(features[self.classes_])
        self.coef_ = (chosen / (self.temperature or 0.01)).astype(np.float32)
        return self

    def _logits(self, X: Any) -> FloatArray:
        return _unit(np.asarray(X, dtype=np.float32)) @ self.coef_.T


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of unit length; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
