"""A number of training rows, whatever their classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, IntArray, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import check_fraction
from probe.protocols.shared.draws import priorities, ranks_in_class, spread
from probe.protocols.shared.validation import split_drawn

MAX_DRAWS = 10_000


@dataclass(frozen=True)
class RandomRows:
    """Draws n training rows, every class among them: the steps of a learning curve.

    At random, the draw is repeated until every class is present, as in C. Zheng et al., "Revisiting Discriminative vs.
    Generative Classifiers", 2023, arXiv 2302.02334. Stratified, every class gets its share, at least one row.

    Args:
        n: Rows drawn; validation rows are among them.
        stratified: Keep the shares of the classes.
        validation_fraction: Share of the drawn rows that validates, from 5 rows per class on; folds below.
    """

    n: int = 100
    stratified: bool = False
    validation_fraction: float = 0.2
    name: ClassVar[str] = "rows"
    by_class: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        labels = np.asarray(dataset.partitions["train"].labels)
        n_classes = len(dataset.class_names)
        if not n_classes <= self.n <= len(labels):
            raise InputError(
                f"n is {self.n}, but dataset {dataset.name} has {n_classes} classes and {len(labels)} training rows: "
                f"set protocol.n between {n_classes} and {len(labels)}"
            )
        draw = self._stratified if self.stratified else self._random
        return split_drawn(dataset, draw(dataset, labels, seed), seed, self.validation_fraction)

    def _stratified(self, dataset: Dataset, labels: IntArray, seed: int) -> IntArray:
        drawn = np.maximum(1, spread(np.bincount(labels), self.n / len(labels)))
        for _ in range(drawn.sum() - self.n):  # what the smallest classes were given is taken from the largest
            drawn[drawn.argmax()] -= 1
        ranks = ranks_in_class(labels, priorities(len(labels), dataset.fingerprint, seed, "train"))
        return np.flatnonzero(ranks < drawn[labels])

    def _random(self, dataset: Dataset, labels: IntArray, seed: int) -> IntArray:
        n_classes = len(dataset.class_names)
        expected = chance_of_all_classes(np.bincount(labels, minlength=n_classes), self.n)
        for attempt in range(MAX_DRAWS if expected > 10 / MAX_DRAWS else 0):
            priority = priorities(len(labels), dataset.fingerprint, seed, f"train {attempt}")
            rows = np.argpartition(priority, self.n - 1)[: self.n]
            if len(np.unique(labels[rows])) == n_classes:
                return rows
        raise InputError(
            f"a random draw of n = {self.n} rows hardly ever holds all {n_classes} classes of dataset {dataset.name} "
            f"(chance below {max(expected, 10 / MAX_DRAWS):.2g}): set protocol.n higher or protocol.stratified=true"
        )


def chance_of_all_classes(counts: IntArray, n: int) -> float:
    """Upper bound of the chance that n of the rows, drawn without replacement, hold every class.

    Product over the classes of their own chances: the numbers drawn of each class are negatively associated (Joag-Dev
    and Proschan, 1983), so the classes miss each other rather more often than if they were independent.
    """
    from scipy.special import gammaln

    total = counts.sum()
    rest = total - counts
    possible = rest >= n
    log_missed = np.where(
        possible,
        gammaln(rest + 1) - gammaln(np.where(possible, rest - n, 0) + 1) - gammaln(total + 1) + gammaln(total - n + 1),
        -np.inf,
    )
    return float(np.prod(-np.expm1(np.minimum(log_missed, 0))))
