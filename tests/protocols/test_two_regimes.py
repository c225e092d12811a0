"""The simulation of C. Zheng et al., 2023 (arXiv 2302.02334): rows needed for an error below 0.01, by `rows` draws.

Class k of K has its mean at -1, 1, 2, 4, ... on all n axes; half of the axes have variance n, the others 1. The
reference numbers were measured with another program on other draws: 5 seeds for naive Bayes, 3 for logistic regression.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from probe.datasets.ladder import load
from probe.heads.naive_bayes import NaiveBayes
from probe.protocols.rows import RandomRows


def rows_needed(head, n_classes, width, seed):
    dataset = load(n_classes, width, seed=seed)
    (X, y), (X_test, y_test) = ((p.rows, p.labels) for p in dataset.partitions.values())
    for n in range(2 * n_classes, 100 * width, math.ceil(math.log(width))):
        # A fresh draw at every size, as in the reference; draws of one seed are nested and reach the error later.
        rows = RandomRows(n, validation_fraction=0.0).split(dataset, 10_000 * seed + n).train.indices
        if (head.fit(X[rows], y[rows]).predict(X_test) != y_test).mean() < 0.01:
            return n
    raise AssertionError("the error stays above 0.01")


REFERENCE = [
    (2, 100, 8.0, 107), (2, 200, 7.6, 178), (2, 400, 7.6, None), (3, 100, 19.0, 276), (3, 200, 14.4, None),
    (3, 400, 12.0, None), (5, 100, 22.0, None), (5, 200, 14.8, None), (5, 400, 16.0, None),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("n_classes", "width", "naive_bayes", "logistic"), REFERENCE)
def test_rows_needed_are_those_of_the_reference_within_the_seeds_deviation(n_classes, width, naive_bayes, logistic):
    regression = LogisticRegression(C=1, max_iter=1000)
    for head, reference, n_seeds in ((NaiveBayes(), naive_bayes, 5), (regression, logistic, 3)):
        if reference is not None:
            found = [rows_needed(head, n_classes, width, seed) for seed in range(n_seeds)]
            error = np.std(found, ddof=1) * np.sqrt(2 / n_seeds)
            assert abs(np.mean(found) - reference) < 3 * error + math.log(width)  # sizes are log(width) apart


def test_naive_bayes_is_flat_in_the_width_where_logistic_regression_grows():
    def grows(head):
        few, many = (np.mean([rows_needed(head, 2, n, s) for s in range(3)]) for n in (50, 200))
        return many / few

    assert grows(NaiveBayes()) < 1.5
    assert grows(LogisticRegression(C=1, max_iter=1000)) > 2
