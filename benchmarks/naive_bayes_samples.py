"""How many rows naive Bayes and logistic regression need, as features grow: the sample-complexity table.

python benchmarks/naive_bayes_samples.py [--quick]

The experiment `naive_bayes_samples` shows the same as learning curves, with this package's own linear head.

Rows until the test error is below 1 % on the easy Gaussian mixture of Zheng et al., "Revisiting Discriminative vs.
Generative Classifiers", 2023, arXiv 2302.02334 (means over seeds; expected, measured with the paper's generator):

| K | n=100 NB | LR  | n=200 NB | LR  | n=400 NB | LR  |
| 2 | 8.0      | 107 | 7.6      | 178 | 7.6      | 408 |
| 3 | 19.0     | 276 | 14.4     | 414 | 12.0     | -   |
| 5 | 22.0     | 627 | 14.8     | -   | 16.0     | -   |

Naive Bayes is flat in n, logistic regression grows with n.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from probe.datasets.ladder import load
from probe.heads.naive_bayes import NaiveBayes

FULL = {(2, 100): True, (2, 200): True, (2, 400): True, (3, 100): True, (3, 200): True, (3, 400): False}
FULL |= {(5, 100): True, (5, 200): False, (5, 400): False}


def rows_needed(head: Any, n_classes: int, width: int, seed: int, start: int = 0) -> int:
    """The first size of a random training set, on a grid of step ln(width), whose test error is below 1 %."""
    rng = np.random.default_rng(seed)
    (X, y), (X_test, y_test) = ((p.rows, p.labels) for p in load(n_classes, width, seed=seed).partitions.values())
    for m in range(max(2 * n_classes, start), 100 * width, math.ceil(math.log(width))):
        rows = rng.permutation(len(y))[:m]
        while len(np.unique(y[rows])) < n_classes:
            rows = rng.permutation(len(y))[:m]
        if head.fit(X[rows], y[rows]).score(X_test, y_test) > 0.99:
            return m
    return 100 * width


def mean_rows_needed(name: str, n_classes: int, width: int) -> float:
    """Mean over 5 seeds (naive Bayes) or 3 (logistic regression)."""
    if name == "NB":
        return float(np.mean([rows_needed(NaiveBayes(device="cpu"), n_classes, width, seed) for seed in range(5)]))
    head = LogisticRegression(C=1.0, max_iter=1000)
    return float(np.mean([rows_needed(head, n_classes, width, seed) for seed in range(3)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two classes only")
    quick = parser.parse_args().quick
    print("| K | n | NB | LR |\n|---|---|---|---|")
    for (n_classes, width), with_regression in FULL.items():
        if quick and n_classes > 2:
            continue
        regression = f"{mean_rows_needed('LR', n_classes, width):.0f}" if with_regression else "-"
        print(f"| {n_classes} | {width} | {mean_rows_needed('NB', n_classes, width):.1f} | {regression} |", flush=True)


if __name__ == "__main__":
    main()
