"""The masked-word head of an encoder as a classifier, as it was trained; its preference for words can be taken out."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.word_head import Words, WordsAlone

CALIBRATIONS = ("none", "empty", "batch")


class MaskZeroShot(WordsAlone):
    """Probability of the words of each class at the mask, over what the model gives them without a text.

    The logit of class k is log sum_{v in V_k} p(v | text) - prior_k, p the masked-word distribution over the whole
    vocabulary. No label is read: training rows say which classes there are, and `batch` reads their features.

    Source: Clavie, Cooper, Warner, "It's All in The [MASK]", 2025, arXiv 2502.03793; the priors are those of Zhao et
    al., "Calibrate Before Use", ICML 2021, arXiv 2102.09690 (`empty`), and of Zhou et al., "Batch Calibration", ICLR
    2024, arXiv 2309.17249 (`batch`).

    Args:
        words: Class -> words, each of one token; `names` or null: the names of the classes; `letters`: A, B, ... in
            their order; or a file of yaml that holds such a mapping.
        calibrate: `none`: the prior is 0; `empty`: what the model says of the template around an empty text; `batch`:
            log of the mean over the training rows of the probabilities among the classes.
        temperature: What logits are divided by; null: 1.
        class_features: (K, M, D + 1) weights and bias of each word. A run fills it in.
        vocabulary: (V, D + 1) the same of every word of the model; null: logits lack a number that all classes of a
            row share. A run fills it in.
        blank_features: (D,) state of the empty text, for `empty`. A run fills it in.

    Attributes:
        prior_: (K,) what is taken off.
    """

    at_mask: ClassVar[bool] = True
    prior_: NDArray[np.float64]

    def __init__(
        self,
        words: Words | None = None,
        calibrate: str = "none",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        vocabulary: Any = None,
        blank_features: ArrayLike | None = None,
    ):
        self.words = words
        self.calibrate = calibrate
        self.temperature = temperature
        self.class_features = class_features
        self.vocabulary = vocabulary
        self.blank_features = blank_features

    def check_parameters(self) -> None:
        super().check_parameters()
        if self.calibrate not in CALIBRATIONS:
            raise InputError(
                f"calibrate is {self.calibrate!r}, expected {', '.join(CALIBRATIONS)}: change the head's calibrate"
            )

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Keeps the words of the classes that are in y, codes into `class_features`, and their prior."""
        super().fit(X, y, validation=validation)
        self.prior_ = np.zeros(len(self.classes_))
        if self.calibrate == "batch":
            log_p = log_softmax(self._of_words(X[:]), axis=1)
            self.prior_ = logsumexp(log_p, axis=0) - np.log(len(log_p))
        if self.calibrate == "empty":
            if self.blank_features is None:
                raise InputError(
                    "MaskZeroShot has no blank_features: run it, give the (D,) state of the empty text, or set "
                    "calibrate=batch"
                )
            self.prior_ = self._log_likelihood(np.asarray(self.blank_features)[None])[0]
        return self

    def _logits(self, X: Any) -> FloatArray:
        return self._log_likelihood(np.asarray(X)) - self.prior_
