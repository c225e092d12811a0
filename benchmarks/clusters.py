"""Seconds of `head=clusters` on many rows, and how often its intervals hold what other rows, clustered anew, give.

    OMP_NUM_THREADS=1 python benchmarks/clusters.py [--rows 100000] [--width 768] [--classes 100]
    OMP_NUM_THREADS=1 python benchmarks/clusters.py --draws 150

The first says what one draw with its two halves takes by Lloyd and by mini-batches of 512, beside the matrix products
of as many rounds of all rows as Lloyd took, and what each finds. The second draws rows of normal classes so often,
clusters them ten times each, and counts the intervals of each measure that hold its mean over the draws.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from probe.heads.clusters import Clusters
from probe.metrics.evaluate import measure

WORLDS = ((0.6, 200), (1.0, 200), (1.0, 1000), (2.5, 200), (2.5, 1000))
"""How far apart five classes lie in ten dimensions, and rows."""


def rows_of(means: NDArray[Any], n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(seed)
    y = random.integers(0, len(means), n)
    return means[y] + random.standard_normal((n, means.shape[1]), dtype=np.float32), y


def seconds(n: int, width: int, n_classes: int) -> None:
    means = 0.15 * np.random.default_rng(0).standard_normal((n_classes, width), dtype=np.float32)
    X, y = rows_of(means, n, 1)
    n_rounds = KMeans(n_classes, n_init=1, random_state=0).fit(X).n_iter_
    started = time.process_time()
    for _ in range(n_rounds):
        X @ means.T
    print(f"{n_rounds} rounds of products {time.process_time() - started:.1f} processor s")
    for batch_size in (None, 512):
        started = time.process_time()
        scores = Clusters(n_draws=1, batch_size=batch_size).fit(X[:2], y[:2]).measure(X, y)
        taken = time.process_time() - started
        value = measure(scores).metrics["v_measure"].value
        print(f"batch_size {batch_size}: {taken:.1f} processor s a draw, v_measure {value:.3f}")


def coverage(n_draws: int) -> None:
    for apart, n in WORLDS:
        means = apart * np.random.default_rng(1).standard_normal((5, 10), dtype=np.float32)
        found = []
        for seed in range(n_draws):
            X, y = rows_of(means, n, seed)
            head = Clusters(metric="euclidean", random_state=seed).fit(X, y)
            found.append(measure(head.measure(X, y)).metrics)
        held = {}
        for name in found[0]:
            mean = np.mean([metrics[name].value for metrics in found])
            inside = np.mean([metrics[name].low <= mean <= metrics[name].high for metrics in found])
            held[name] = f"{100 * inside:.0f} % around {mean:.3f}"
        print(f"{apart} apart, {n} rows: {held}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("rows", 100_000), ("width", 768), ("classes", 100), ("draws", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    if asked.draws:
        coverage(asked.draws)
    else:
        seconds(asked.rows, asked.width, asked.classes)


if __name__ == "__main__":
    main()
