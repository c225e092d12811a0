"""Words that vote: a text classifier that learns by counting, reads word by word and says which words decided."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.ragged import Ragged
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.streaming import check_stream
from probe.heads.shared.token_rows import TokenRows, counts_of, places_of, vocabulary_of

Part = tuple[Ragged, IntArray]


class SS3(Head):
    """Sums the global values of a text's words, one for each class; the largest sum wins.

    With tf_wc how often word w stands in texts of class c, of K classes: gv = lv sg sn, where

        local value   lv_wc = (tf_wc / max_v tf_vc)^sigma, 0 for a word seen once
        significance  sg_wc = 1/2 tanh(3 (lv_wc - med) / (lambda dev) - 3) + 1/2, med the lower median of lv_wc over
                      classes and dev the mean distance from it; 0 where tf_wc = 0; where dev = 0, whether lv_wc > 0
        sanction      sn_wc = ((K - 1 - S) / ((K - 1) (S + 1)))^rho, S the sum of sg over the other classes

    Of two classes, med and dev are both the smaller lv. Only counts are kept, so that rows may come in any order and
    any number of parts. A text of unknown words goes to the class with the most words.

    Source: Burdisso, Errecalde, Montes-y-Gomez, "A text classification framework for simple and effective early
    depression detection over social media streams", Expert Systems with Applications 133, 2019, arXiv 1905.08772.

    Args:
        sigmas, lambdas, rhos: Values to choose from on validation rows; `partial_fit` takes the middle ones, which are
            those of the released code.
        alpha: Words whose value is not above it count for nothing.
        refit: Whether to count the validation rows too when the choice is made.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        vocabulary_: (V,) ids of the words.
        words_: The words themselves; of a run alone, which knows them.
        counts_: (V, K) tf.
        values_: (V, K) gv.
        sigma_, lambda_, rho_: The chosen ones.
    """

    consumes: ClassVar[tuple[str, ...]] = ("token_ids",)
    recipe: ClassVar[str] = "2"
    searches: ClassVar[Mapping[str, str]] = {"sigma": "sigmas", "lambda": "lambdas", "rho": "rhos"}
    unordered: ClassVar[tuple[str, ...]] = ("sigmas", "lambdas", "rhos")
    log_probabilities: bool = False
    vocabulary_: IntArray
    counts_: NDArray[np.float64]
    values_: NDArray[np.float64]
    sigma_: float
    lambda_: float
    rho_: float

    def __init__(
        self,
        sigmas: Sequence[float] = (0.05, 0.2, 0.45, 0.6, 0.8),
        lambdas: Sequence[float] = (0.1, 0.5, 2.0),
        rhos: Sequence[float] = (0.5, 1.0, 4.0),
        alpha: float = 0.0,
        refit: bool = True,
        random_state: int | None = 0,
    ):
        self.sigmas = sigmas
        self.lambdas = lambdas
        self.rhos = rhos
        self.alpha = alpha
        self.refit = refit
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Counts the words of ids, `RaggedRows` or an array (N, T), by their labels (N,)."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        self._forget()
        if validation is not None and not len(np.asarray(validation[1])):
            validation = None
        train, *held = ((rows[:], codes) for rows, codes in self._check_parts(X, y, validation))
        candidates, on = self._candidates(), "validation"
        if len(candidates) == 1:
            return self._settle([train, *held], candidates[0])
        kept = train
        if not held:
            marks, on = hold_out(train[1], self.random_state), HELD_OUT
            kept, held = _some(train, ~marks), [_some(train, marks)] if marks.any() else []
        if not held:
            chosen = candidates[len(candidates) // 2]
            self.selection_ = {"on": "nothing, for want of rows", "searched": [], "chosen": _named(chosen)}
            return self._settle([train], chosen)
        scores = self._scores(kept, held[0], candidates)
        best = int(np.argmax(scores))
        searched = [_named(candidate) | {"score": score} for candidate, score in zip(candidates, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": _named(candidates[best])}
        if on == "validation":
            self._evaluate(candidates[best])
            self._keep_choice()
            if not self.refit:
                return self
        self._forget()
        return self._settle([train, *held] if on == "validation" else [train], candidates[best])

    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Counts further rows; in any order and parts what `fit` of the middle values counts on all of them.

        The first call names all `classes`; a batch may lack some of them.
        """
        self.check_parameters()
        rows, codes = check_stream(self, X, y, classes, begun=hasattr(self, "counts_"))
        candidates = self._candidates()
        return self._settle([(rows[:], codes)], candidates[len(candidates) // 2])

    def check_parameters(self) -> None:
        wrong = [
            f"{name} is {values!r}, expected positive numbers"
            for name, values in (("sigmas", self.sigmas), ("lambdas", self.lambdas), ("rhos", self.rhos))
            if not len(values) or not all(0 < value < np.inf for value in values)
        ]
        if not self.alpha >= 0:
            wrong.append(f"alpha is {self.alpha!r}, expected a number from 0")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def explain(self, X: Any) -> Ragged:
        """The vote of every word of every row: (M, K) values of all words in their order, and words of each row."""
        tokens = self._check_rows(X, reset=False)[:]
        return Ragged(self._votes(tokens), tokens.lengths)

    def decide_early(self, X: Any, target: Any) -> tuple[NDArray[np.bool_], IntArray]:
        """Reads each row until the votes for a class exceed those for every other one.

        Returns:
            (N,) whether that ever is so, and (N,) how many words were read until then, or all.
        """
        votes, own = self.explain(X), int(np.flatnonzero(self.classes_ == target)[0])
        decisions, delays = np.zeros(len(votes), dtype=bool), np.asarray(votes.lengths, dtype=np.int64).copy()
        for row, part in enumerate(np.split(votes.values, np.cumsum(votes.lengths)[:-1])):
            so_far = part.cumsum(axis=0)
            ahead = np.flatnonzero(so_far[:, own] > np.delete(so_far, own, axis=1).max(axis=1))
            if len(ahead):
                decisions[row], delays[row] = True, ahead[0] + 1
        return decisions, delays

    def _candidates(self) -> list[tuple[float, float, float]]:
        sigmas, lambdas, rhos = ([float(v) for v in sorted(vs)] for vs in (self.sigmas, self.lambdas, self.rhos))
        return list(itertools.product(sigmas, lambdas, rhos))

    def _scores(self, train: Part, held: Part, candidates: Sequence[tuple[float, float, float]]) -> list[float]:
        self._count(train)
        scores = []
        for candidate in candidates:
            self._evaluate(candidate)
            scores.append(float((self._logits(held[0]).argmax(axis=1) == held[1]).mean()))
        return scores

    def _settle(self, parts: Sequence[Part], candidate: tuple[float, float, float]) -> Self:
        for part in parts:
            self._count(part)
        self._evaluate(candidate)
        return self

    def _forget(self) -> None:
        for name in ("vocabulary_", "counts_"):
            self.__dict__.pop(name, None)

    def _count(self, part: Part) -> None:
        tokens, codes = part
        known = getattr(self, "vocabulary_", np.empty(0, np.int64))
        every = np.union1d(known, vocabulary_of(tokens))
        counts = np.zeros((len(every), len(self.classes_)))
        if len(known):
            counts[np.searchsorted(every, known)] = self.counts_
        found = counts_of(tokens, every)
        for k in np.unique(codes):
            counts[:, k] += np.asarray(found[codes == k].sum(axis=0)).ravel()
        self.vocabulary_, self.counts_ = every, counts
        self.__dict__.pop("words_", None)

    def _evaluate(self, candidate: tuple[float, float, float]) -> None:
        self.sigma_, self.lambda_, self.rho_ = candidate
        self.values_ = np.prod(global_values(self.counts_, *candidate), axis=0)

    def _votes(self, tokens: Ragged) -> NDArray[np.float64]:
        places, known = places_of(tokens, self.vocabulary_)
        votes: NDArray[np.float64] = np.where(known[:, None], self.values_[places], 0.0)
        return np.where(votes > self.alpha, votes, 0.0)

    def _logits(self, X: Any) -> FloatArray:
        values = np.where(self.values_ > self.alpha, self.values_, 0.0)
        sums: FloatArray = counts_of(X, self.vocabulary_) @ values
        shares = self.counts_.sum(axis=0) / self.counts_.sum()
        return np.where((sums == 0).all(axis=1)[:, None], np.finfo(float).tiny * shares, sums)

    def _check_rows(self, X: Any, *, reset: bool) -> TokenRows:
        if reset:
            self._forget_calibration()
        return TokenRows(X)


def global_values(counts: FloatArray, sigma: float, lambda_: float, rho: float) -> tuple[FloatArray, ...]:
    """lv, sg and sn of each word and class, (V, K) each, of counts (V, K)."""
    n_classes = counts.shape[1]
    lv = np.where(counts > 1, (counts / np.maximum(counts.max(axis=0), 1)) ** sigma, 0.0)
    median = np.sort(lv, axis=1)[:, [(n_classes - 1) // 2]]
    deviation = np.abs(lv - median).mean(axis=1, keepdims=True) if n_classes > 2 else median
    width = np.where(deviation > 0, lambda_ * deviation, 1.0)
    sg = np.where(deviation > 0, 0.5 * np.tanh(3 * (lv - median) / width - 3) + 0.5, lv > 0)
    sg = np.where(counts == 0, 0.0, sg)
    others = sg.sum(axis=1, keepdims=True) - sg
    sn = ((n_classes - 1 - others).clip(min=0) / ((n_classes - 1) * (others + 1))) ** rho
    return lv, sg, sn


def erde(
    truth: ArrayLike, decision: ArrayLike, delay: ArrayLike, deadline: float, cost_of_false_alarm: float | None = None
) -> NDArray[np.float64]:
    """(N,) early risk detection error: what each decision costs that was taken after so many words.

    A false alarm costs the share of positives (or what is given), a miss 1, a right alarm 1 - 1 / (1 + e^(k - o)) with
    k words read and o the deadline, a right silence nothing.

    Source: Losada, Crestani, "A test collection for research on depression and language use", CLEF 2016.
    """
    true, said = np.asarray(truth, dtype=bool), np.asarray(decision, dtype=bool)
    false_alarm = float(true.mean()) if cost_of_false_alarm is None else cost_of_false_alarm
    late = 1 - 1 / (1 + np.exp(np.clip(np.asarray(delay, dtype=np.float64) - deadline, -700, 700)))
    return np.where(said, np.where(true, late, false_alarm), np.where(true, 1.0, 0.0))


def _named(candidate: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("sigma", "lambda", "rho"), candidate, strict=True))


def _some(part: Part, marks: NDArray[np.bool_]) -> Part:
    tokens, codes = part
    return Ragged(tokens.values[np.repeat(marks, tokens.lengths)], tokens.lengths[marks]), codes[marks]
