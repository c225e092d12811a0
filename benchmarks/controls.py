"""How often a row keeps the mark of its controls where features carry nothing: the share of boards without it.

    python benchmarks/controls.py [--boards 1000]

Labels are drawn evenly from K classes. Rows and controls of the first settings predict without regard to them: each
seed predicts a test row as the first seed does, or, with probability 1 - shared, anew. In the last setting nearest
class means, LDA and naive Bayes are fitted on normal features without meaning, rows and controls alike, on training
rows that each seed draws anew; all heads of a control see the same features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from probe.heads.lda import LinearDiscriminant
from probe.heads.majority_class import MajorityClass
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.leaderboard.controls import EQUAL, above
from probe.leaderboard.statistics import Scores, scores

KINDS = list(EQUAL)
HEADS = (NearestClassMean, LinearDiscriminant, NaiveBayes)
Board = tuple[list[Scores], dict[str, list[tuple[int, int]]]]


def hits(predicted: np.ndarray, labels: np.ndarray) -> Scores:
    """Scores of predictions (R, N)."""
    return scores(list((predicted == labels).astype(float)), None, range(len(predicted)), len(labels))


def guesses(rng: np.random.Generator, n_rows: int, n_seeds: int, n_classes: int, shared: float, n_test: int) -> Board:
    """Rows that guess, each with three controls that guess, and one control that always says the same."""
    labels = rng.integers(0, n_classes, n_test)

    def system() -> Scores:
        first, anew = rng.integers(0, n_classes, (1, n_test)), rng.integers(0, n_classes, (n_seeds, n_test))
        return hits(np.where(rng.random((n_seeds, n_test)) < shared, first, anew), labels)

    column = [system() for _ in range(4 * n_rows)] + [hits(np.zeros((n_seeds, n_test), int), labels)]
    pairs = {kind: [(row, (i + 1) * n_rows + row) for row in range(n_rows)] for i, kind in enumerate(KINDS[1:])}
    return column, {"majority": [(row, 4 * n_rows) for row in range(n_rows)], **pairs}


def noise(rng: np.random.Generator, n_seeds: int, n_classes: int, n_test: int, width: int = 16) -> Board:
    """Three heads on features without meaning, and the same heads on other ones."""
    n = n_test + 20 * n_classes
    y = rng.integers(0, n_classes, n)
    train = [n_test + rng.permutation(n - n_test)[: 15 * n_classes] for _ in range(n_seeds)]
    test = slice(0, n_test)
    features = {kind: rng.normal(size=(n, width)) for kind in ("row", "raw input", "random weights")}
    features["shuffled labels"] = features["row"]
    column = []
    for kind, X in features.items():
        seen = rng.permuted(y) if kind == "shuffled labels" else y
        for head in HEADS:
            column.append(hits(np.stack([head().fit(X[t], seen[t]).predict(X[test]) for t in train]), y[test]))
    X = features["row"]
    column.append(hits(np.stack([MajorityClass().fit(X[t], y[t]).predict(X[test]) for t in train]), y[test]))
    places = {kind: i * len(HEADS) for i, kind in enumerate(features)}
    pairs = {kind: [(h, places[kind] + h) for h in range(len(HEADS))] for kind in KINDS[1:]}
    return column, {"majority": [(h, len(column) - 1) for h in range(len(HEADS))], **pairs}


def without_mark(board: Callable[[np.random.Generator], Board], n_boards: int) -> dict[str, float]:
    """Share of boards on which some row is better than its control of each kind, and than all of them."""
    rng, counts = np.random.default_rng(0), dict.fromkeys([*KINDS, "all four"], 0)
    for i in range(n_boards):
        column, pairs = board(rng)
        found = above(column, pairs, True, seed=i)
        for kind in KINDS:
            counts[kind] += bool(found[kind].any())
        counts["all four"] += bool(np.all([found[kind] for kind in KINDS], axis=0).any())
    return {kind: count / n_boards for kind, count in counts.items()}


SETTINGS: dict[str, Callable[[np.random.Generator], Board]] = {
    f"{n_rows} rows, {n_seeds} seeds, {n_classes} classes, {n_test} test rows, shared {shared}": (
        lambda rng, a=(n_rows, n_seeds, n_classes, shared, n_test): guesses(rng, *a)
    )
    for n_rows, n_seeds, n_classes, shared, n_test in [
        (1, 1, 10, 1.0, 500), (1, 3, 10, 0.0, 500), (1, 3, 2, 0.8, 500), (3, 1, 2, 1.0, 500), (3, 3, 10, 0.8, 500),
        (3, 5, 2, 0.0, 200), (10, 3, 10, 0.5, 500),
    ]
} | {"3 heads on noise, 3 seeds, 5 classes, 500 test rows": lambda rng: noise(rng, 3, 5, 500)}  # fmt: skip


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--boards", type=int, default=1000)
    n_boards = options.parse_args().boards
    print(f"Share of {n_boards} boards without the mark, %\n")
    print(f"| setting | {' | '.join([*KINDS, 'all four'])} | seconds |")
    print(f"|---|{'---|' * (len(KINDS) + 2)}")
    for name, board in SETTINGS.items():
        started = time.perf_counter()
        shares = without_mark(board, n_boards)
        told = " | ".join(f"{100 * share:.1f}" for share in shares.values())
        print(f"| {name} | {told} | {time.perf_counter() - started:.0f} |", flush=True)
