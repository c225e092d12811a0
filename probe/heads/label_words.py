"""The class whose words a language model finds most likely; nothing is fitted."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike

from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.word_head import WordHead, Words


class LabelWords(WordHead):
    """Log-likelihood of the words of each class, at the mask of an encoder or behind the text of a decoder.

    The logit of class k is log sum_{v in V_k} p(v), p the model's own distribution over its whole vocabulary, but for
    a number that all classes of a row share; training rows say only which classes there are. The state comes from the
    cache, so that other words cost nothing.

    Source: Schick, Schuetze, "Exploiting Cloze Questions for Few Shot Text Classification and Natural Language
    Inference", EACL 2021, arXiv 2001.07676; Clavie, Cooper, Warner, "It's All in The [MASK]", 2025, arXiv 2502.03793.

    Args:
        words: Class -> words, each of one token; null: the names of the classes.
        temperature: What logits are divided by; null: 1.
        class_features: (K, M, D + 1) weights and bias of each word. A run fills it in.
    """

    def __init__(
        self, words: Words | None = None, temperature: float | None = None, class_features: ArrayLike | None = None
    ):
        self.words = words
        self.temperature = temperature
        self.class_features = class_features

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Keeps the words of the classes that are in y, codes into `class_features`."""
        self.check_parameters()
        X, _ = self._check_fit(X, y)
        self._read_words(X.shape[1])
        return self

    def _logits(self, X: Any) -> FloatArray:
        return self._of_words(X)
