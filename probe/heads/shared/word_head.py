"""What heads share that ask a language model how likely the words of each class are."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from probe.core.errors import InputError
from probe.core.texts import read_text
from probe.heads.shared.head import FloatArray, Head, Validation

Words = Mapping[str, Sequence[str]] | str
NAMES, LETTERS = "names", "letters"
ROWS_TOGETHER, WORDS_TOGETHER = 4096, 4096
"""How much of the product of states and output matrix is held at once."""


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
        """The words of each class: those told, its letter, or its name."""
        self.check_parameters()
        told = self._told(class_names)
        if set(told) != set(class_names) or not all(told.values()):
            raise InputError(
                f"words has {list(told)}, expected at least one word for each of {list(class_names)}: set head.words="
                "{<class>: [<word>, ...]}"
            )
        return [list(told[name]) for name in class_names]

    def _told(self, class_names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        given = self.words or NAMES
        if not isinstance(given, str):
            return given
        if given == NAMES:
            return {name: [name.replace("_", " ")] for name in class_names}
        if given != LETTERS:
            return words_of_file(Path(given).expanduser())
        if len(class_names) > len(string.ascii_uppercase):
            raise InputError(f"there are {len(class_names)} classes and 26 letters: give head.words another value")
        return {name: [letter] for name, letter in zip(class_names, string.ascii_uppercase, strict=False)}

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


class WordsAlone(WordHead):
    """Base class of word heads that fit nothing: log-probabilities under the model's own distribution of words.

    The logit of class k is z_k - log sum_v exp(W_v.t + b_v), the sum over the whole vocabulary: the log of the
    probability that the model gives to the words of the class. Without `vocabulary` it is z_k.

    A subclass has the parameter `vocabulary` besides.
    """

    vocabulary: Any
    vocabulary_: Any

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Keeps the words of the classes that are in y, codes into `class_features`."""
        self.check_parameters()
        X, _ = self._check_fit(X, y)
        self._read_words(X.shape[1])
        if self.vocabulary is not None and self.vocabulary.shape[1:] != (X.shape[1] + 1,):
            raise InputError(
                f"vocabulary has shape {self.vocabulary.shape}, expected weights and bias of width {X.shape[1]} + 1 "
                "for each word: give the output matrix of the same model"
            )
        self.__dict__.pop("vocabulary_", None)
        if self.vocabulary is not None:
            self.vocabulary_ = self.vocabulary
        return self

    def _logits(self, X: Any) -> FloatArray:
        return self._log_likelihood(np.asarray(X))

    def _log_likelihood(self, states: FloatArray) -> FloatArray:
        """(n, K) over the temperature."""
        found = self._of_words(states)
        matrix = getattr(self, "vocabulary_", None)
        return found if matrix is None else found - log_total(states, matrix)[:, None] / (self.temperature or 1.0)


def log_total(states: FloatArray, matrix: Any) -> NDArray[np.float64]:
    """(n,) log sum_v exp(W_v.t + b_v) over all words, in blocks: the product is never there as a whole.

    Args:
        states: (n, D) what the output matrix reads.
        matrix: (V, D + 1) weights and bias of each word, perhaps on disk.
    """
    found = np.full(len(states), -np.inf)
    rows = np.ascontiguousarray(states, dtype=np.float32)
    for word in range(0, len(matrix), WORDS_TOGETHER):
        block = np.asarray(matrix[word : word + WORDS_TOGETHER], dtype=np.float32)
        for row in range(0, len(rows), ROWS_TOGETHER):
            inside = slice(row, row + ROWS_TOGETHER)
            logits = rows[inside] @ block[:, :-1].T + block[:, -1]
            found[inside] = np.logaddexp(found[inside], logsumexp(logits.astype(np.float64), axis=1))
    return found


def words_of_file(path: Path) -> dict[str, list[str]]:
    """Class -> words of a file of yaml (or JSON).

    Raises:
        InputError: There is no such file, or it says something else.
    """
    asked = f"words is {str(path)!r}, expected {NAMES}, {LETTERS}, or a file of yaml such as `sport: [sport, game]`"
    try:
        told = yaml.safe_load(read_text(path))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{asked}, and it cannot be read ({error}): mend head.words") from error
    told = {str(k): [v] if isinstance(v, str) else v for k, v in told.items()} if isinstance(told, dict) else {"": None}
    if odd := [k for k, v in told.items() if not isinstance(v, list) or not all(isinstance(word, str) for word in v)]:
        raise InputError(f"{asked}; it has no words for {odd[0] or 'classes'}: mend it")
    return told
