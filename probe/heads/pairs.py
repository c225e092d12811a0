"""A run without a head: how well the similarity of the two rows of a pair tells what is said of the pair."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import CHUNK_BYTES
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.magnitudes import check_features
from probe.core.words import counted
from probe.heads.shared.head import Head, Validation, check_lazy
from probe.metrics.pairs import PairScores, best_thresholds
from probe.metrics.shared.correlations import varies
from probe.metrics.shared.intervals import FloatArray, normal_half
from probe.metrics.shared.orders import auroc_with_derivative


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("pd,pd->p", a, b) / np.where(lengths > 0, lengths, 1)


SIMILARITIES: Mapping[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "cosine": _cosine,
    "dot": lambda a, b: np.einsum("pd,pd->p", a, b),
    "euclidean": lambda a, b: -np.linalg.norm(a - b, axis=1),
    "manhattan": lambda a, b: -np.abs(a - b).sum(axis=1),
}
"""Of the rows of pairs, (P, D) each; distances with a minus."""


class Pairs(Head):
    """Measures features by the similarity of the two rows of each pair, and predicts nothing.

    A pair is a group of exactly two rows of one label. Of numbers, such as grades of how alike two sentences are:
    `pair_spearman` and `pair_pearson` of similarity and number (semantic textual similarity: Cer et al. 2017, arXiv
    1708.00055). Of classes, one of which is of pairs that match: `pair_average_precision`, `pair_auroc`, and `pair_f1`
    and `pair_accuracy` at thresholds that are best on the training pairs, where MTEB (Muennighoff et al. 2023, arXiv
    2210.07316) takes those that are best on the test pairs. Nothing else is fitted. Intervals are over pairs.

    Args:
        similarity: `cosine`, `dot` product, or `euclidean` or `manhattan` distance with a minus.
        match: Code of the class of pairs that match, 0 or 1 of two classes in the order of their names; pairs of all
            others do not. Numbers have none.

    Attributes:
        width_: D.
        thresholds_: (2,) similarities above which pairs are taken to match, for F1 and for accuracy; of classes.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "number")
    thresholds_: NDArray[np.float64]

    def __init__(self, similarity: str = "cosine", match: int = 1):
        self.similarity = similarity
        self.match = match

    @property
    def balances_groups(self) -> bool:
        return True

    def for_target(self, target: str) -> Pairs:
        return PairsOfNumbers(**self.get_params(deep=False)) if target == "number" else self

    def check_parameters(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise InputError(
                f"similarity is {self.similarity!r}, expected one of {', '.join(SIMILARITIES)}: change the parameter"
            )

    def check_groups(self, groups: IntArray | None, labels: NDArray[Any], whose: str) -> tuple[IntArray, IntArray]:
        """Places of the first and of the second row of each pair, (P,), in the order of the first.

        Args:
            groups: (n,) of the rows.
            labels: (n,) or (n, 1).
            whose: Which rows, for errors.

        Raises:
            InputError: Groups that are no pairs, rows of a pair with two labels, or labels that tell nothing.
        """
        if groups is None:
            raise InputError(
                f"head pairs compares the two rows of each group, and {whose} name none: set dataset.pair_column and "
                "dataset.pair_as=rows where a row of the table holds two texts, else dataset.group_column, with a name "
                "for each pair"
            )
        counts = np.unique(groups, return_counts=True)[1]
        if (counts != 2).any():
            single, more = int((counts == 1).sum()), int((counts > 2).sum())
            raise InputError(
                f"{single} of the {counted(len(counts), 'group')} of {whose} have one row and {more} have more than "
                "two, head pairs compares the two rows of each: give every pair a group of its own, leave out rows "
                "without a partner, and set no limit, which parts them"
            )
        first, second = np.argsort(groups, kind="stable").reshape(-1, 2).T
        order = np.argsort(first)
        first, second = first[order], second[order]
        labels = np.asarray(labels).reshape(len(groups), -1)
        if odd := int((labels[first] != labels[second]).any(axis=1).sum()):
            raise InputError(
                f"{odd} of {len(first)} pairs of {whose} have two labels, expected one of the pair that both rows "
                "have: give both the same"
            )
        self._check_labels_of_pairs(labels[first], whose)
        return first, second

    def _check_labels_of_pairs(self, labels: NDArray[Any], whose: str) -> None:
        n = int((labels == self.match).sum())
        if n in (0, len(labels)):
            raise InputError(
                f"{n} of {counted(len(labels), 'pair')} of {whose} match (class {self.match}), expected some that do "
                "and some that do not: set head.match to the class of pairs that match, or take more rows"
            )

    def fit(
        self, X: Any, y: ArrayLike, *, validation: Validation | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Chooses the thresholds on the pairs of X (N, D); validation rows take no part.

        Args:
            X: Features.
            y: (N,) classes.
            validation: Unused.
            groups: (N,) numbers of the pairs.
        """
        self.check_parameters()
        X, y = self._check_rows(X, reset=True), plain_array(y, "y")
        check_features(X, warn=False)
        check_lazy(X)
        self.width_ = X.shape[1]
        first, second = self.check_groups(_numbers(groups), y, "training rows")
        similarity, matches = self._similarities(X, first, second), y[first] == self.match
        self.thresholds_ = np.array(list(best_thresholds(similarity, matches)))
        value, slopes = auroc_with_derivative(similarity, matches)
        if value + normal_half(slopes) < 0.5:
            warnings.warn(
                f"training pairs of class {self.match} are less alike than the others (AUROC {value:.2f}): if these "
                "match, set head.match to their class",
                stacklevel=2,
            )
        return self

    def measure(
        self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = "one_class"
    ) -> Mapping[str, PairScores]:
        """Similarities of the pairs of rows X (n, D), by the name under which metrics read them.

        Args:
            X: Features of the test rows.
            y: (n,) classes, or (n,) or (n, 1) numbers.
            groups: (n,) numbers of the pairs.
            target: Name of what the labels are.
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        check_features(X, warn=False)
        check_lazy(X)
        first, second = self.check_groups(_numbers(groups), y, "test rows")
        y = np.asarray(y).reshape(len(y))
        similarity = self._similarities(X, first, second)
        if not varies(similarity):
            raise InputError(
                f"all {len(first)} pairs of test rows are equally alike, which puts them into no order: set "
                "head.similarity, or another backbone"
            )
        return {"pairs": PairScores(target, y, first, second, similarity, **self._told())}

    def _told(self) -> dict[str, Any]:
        """What metrics have to know beside similarities and labels."""
        threshold_f1, threshold_accuracy = self.thresholds_.tolist()
        return {"match": self.match, "thresholds": (threshold_f1, threshold_accuracy)}

    def _similarities(self, X: Any, first: IntArray, second: IntArray) -> FloatArray:
        """(P,) in double precision, read chunk by chunk."""
        similar, step = SIMILARITIES[self.similarity], max(1, CHUNK_BYTES // (8 * X.shape[1]))
        parts = [slice(start, start + step) for start in range(0, len(first), step)]
        rows = ((np.asarray(X[side[part]], dtype=np.float64) for side in (first, second)) for part in parts)
        return np.concatenate([similar(*sides) for sides in rows])

    def _logits(self, X: Any) -> FloatArray:
        raise InputError("head pairs measures features and predicts nothing: choose a head that is fitted, such as knn")


class PairsOfNumbers(Pairs):
    """`Pairs` with a number each, of which nothing is fitted."""

    fits: ClassVar[tuple[str, ...]] = ("number",)

    @property
    def balances_groups(self) -> bool:
        return False

    def for_target(self, target: str) -> Pairs:
        return self

    def _check_labels_of_pairs(self, labels: NDArray[Any], whose: str) -> None:
        if labels.shape[1] > 1:
            raise InputError(
                f"{whose} have {labels.shape[1]} numbers each, head pairs compares similarity with one: name one "
                "column in dataset.target_columns"
            )
        if len(labels) < 3 or not varies(labels):
            raise InputError(
                f"{counted(len(labels), 'pair')} of {whose} with {counted(len(np.unique(labels)), 'number')} have no "
                "correlation, expected at least 3 pairs and 2 numbers: test on more rows"
            )

    def fit(
        self, X: Any, y: ArrayLike, *, validation: Validation | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Learns the width of the rows."""
        self.check_parameters()
        self.width_ = self._check_rows(X, reset=True).shape[1]
        return self

    def _told(self) -> dict[str, Any]:
        return {}


def _numbers(groups: ArrayLike | None) -> IntArray | None:
    return None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
