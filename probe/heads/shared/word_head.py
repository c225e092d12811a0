"""What heads share that ask a language model how likely the words of each class are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Head

Words = Mapping[str, Sequence[str]]


class WordHead(Head):
    """Base class: log-probabilities of classes by their words, from the state that the output matrix reads.

    With t that state and W_v, b_v the matrix's row of word v, class k has z_k = log sum_{v in V_k} exp(W_v.t + b_v):
    the log of the sum of the model's probabilities of its words, but for a number that all classes share.

    A subclass has the parameters `words`, `temperature`, `class_features`.
    """

    reads_texts: ClassVar[bool] = True
    apart: ClassVar[bool] = True
    words: Words | None
    temperature: float | None
    class_features: ArrayLike | None
    word_weights_: NDArray[np.float64]
    word_biases_: NDArray[np.float64]

    def prompts(self, class_names: Sequence[str]) -> list[list[str]]:
        """The words of each class: those told, else its name."""
        self.check_parameters()
        told = self.words or {name: [name.replace("_", " ")] for name in class_names}
        if set(told) != set(class_names) or not all(told.values()):
            raise InputError(
                f"words has {list(told)}, expected at least one word for each of {list(class_names)}: set head.words="
                "{<class>: [<word>, ...]}"
            )
        return [list(told[name]) for name in class_names]

    def check_parameters(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature!r}, expected a positive number or null: change it")

    def _read_words(self, width: int) -> None:
        """Sets `word_weights_` (K, M, D) and `word_biases_` (K, M), -inf where a class has fewer words than M."""
        if self.class_features is None:
            raise InputError(
                f"{type(self).__name__} has no class_features: run it with backbone.words=true, or give "
                "(K, M, D + 1) weights and biases of the words of each class"
            )
        given = np.asarray(self.class_features, dtype=np.float64)
        given = given[:, None] if given.ndim == 2 else given
        if given.shape[-1] == width:
            given = np.concatenate([given, np.zeros((*given.shape[:-1], 1))], axis=-1)
        codes = np.asarray(self.classes_)
        known = codes.dtype.kind in "iu" and np.isin(codes, np.arange(len(given))).all()
        if given.ndim != 3 or given.shape[-1] != width + 1 or not known:
            raise InputError(
                f"class_features has shape {given.shape}, expected weights and bias of width {width} + 1 for each "
                f"class code in y (up to {codes[-1]}): give words of the same model and of all classes"
            )
        given = given[codes]
        there = np.isfinite(given).all(axis=-1)
        self.word_weights_ = np.where(there[..., None], given[..., :-1], 0.0)
        self.word_biases_ = np.where(there, given[..., -1], -np.inf)

    def _of_words(self, X: Any) -> FloatArray:
        """(n, K) z over the temperature."""
        states = np.asarray(X, dtype=np.float64)
        logits: FloatArray = np.einsum("nd,kmd->nkm", states, self.word_weights_) + self.word_biases_
        return logsumexp(logits, axis=2) / (self.temperature or 1.0)
