"""The class whose words a language model finds most likely; nothing is fitted."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import ArrayLike

from probe.heads.shared.word_head import Words, WordsAlone


class LabelWords(WordsAlone):
    """Log-likelihood of the words of each class, at the mask of an encoder or behind the text of a decoder.

    The logit of class k is log sum_{v in V_k} p(v), p the model's own distribution over its whole vocabulary; training
    rows say only which classes there are. The state comes from the cache, so that other words cost nothing.

    Source: Schick, Schuetze, "Exploiting Cloze Questions for Few Shot Text Classification and Natural Language
    Inference", EACL 2021, arXiv 2001.07676; Clavie, Cooper, Warner, "It's All in The [MASK]", 2025, arXiv 2502.03793.

    Args:
        words: Class -> words, each of one token; `names` or null: the names of the classes; `letters`: A, B, ... in
            their order; or a file of yaml that holds such a mapping.
        temperature: What logits are divided by; null: 1.
        class_features: (K, M, D + 1) weights and bias of each word. A run fills it in.
        vocabulary: (V, D + 1) the same of every word of the model; null: logits lack a number that all classes of a
            row share. A run fills it in.
    """

    recipe: ClassVar[str] = "2"

    def __init__(
        self,
        words: Words | None = None,
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        vocabulary: Any = None,
    ):
        self.words = words
        self.temperature = temperature
        self.class_features = class_features
        self.vocabulary = vocabulary
