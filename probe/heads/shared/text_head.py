"""What heads share that read texts of the classes: the sentences, and the features that a run makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Head

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


class TextHead(Head):
    """Base class: a run fills in `class_features` and `temperature`, from the backbone's text tower.

    Attributes:
        without_texts: The way out where a backbone has none, for the error.
    """

    reads_texts: ClassVar[bool] = True
    without_texts: ClassVar[str] = "choose another head"
    templates: str | Sequence[str]
    temperature: float | None
    class_features: ArrayLike | None

    def prompts(self, class_names: Sequence[str]) -> list[list[str]]:
        """The texts of each class; underscores in names become spaces."""
        self.check_parameters()
        if blank := [k for k, name in enumerate(class_names) if not name.replace("_", " ").strip()]:
            raise InputError(
                f"class {blank[0]} has no name, texts tell classes apart by theirs: set dataset.class_names to a list "
                "that names all of them"
            )
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

    def _check_texts(self) -> None:
        if self.class_features is None:
            name = type(self).__module__.rpartition(".")[2]
            raise InputError(
                f"{name} has no class_features: run it with a backbone that has a text tower, or give (K, D) features"
            )

    def _features_of_classes(self, width: int | None) -> NDArray[np.float64]:
        """(K, D) features of the classes that are in y, as they were given; of any width where that is None."""
        self._check_texts()
        features = np.asarray(self.class_features, dtype=np.float64)
        known = np.isin(self.classes_, np.arange(len(features)))
        if features.ndim != 2 or features.shape[1] != (width or features.shape[1]) or not known.all():
            of_width = f" of width {width}" if width else ""
            raise InputError(
                f"class_features has shape {features.shape}, expected one row{of_width} for each class "
                f"code in y (up to {self.classes_[-1]}): give features of the same model and of all classes"
            )
        found: NDArray[np.float64] = features[self.classes_]
        return found


def unit(rows: FloatArray) -> FloatArray:
    """Rows of unit length; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
