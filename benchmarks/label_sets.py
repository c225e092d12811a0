"""Seconds of conformal sets of label sets.

    python benchmarks/label_sets.py [--labels 40] [--rows 2000]

takes so many rows to answer for, as many held-out ones, and labels of which a tenth are uncertain. Expected: <= 30 s.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from probe.metrics.label_sets import answers, nonconformity


def drawn(n: int, n_labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and the labels drawn by them."""
    rng = np.random.default_rng(seed)
    sure = rng.random((n, n_labels)) < 0.9
    probabilities = np.where(sure, rng.beta(0.05, 2.0, (n, n_labels)), rng.beta(0.5, 0.5, (n, n_labels)))
    return probabilities, (rng.random(probabilities.shape) < probabilities).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", type=int, default=40)
    parser.add_argument("--rows", type=int, default=2000)
    asked = parser.parse_args()
    held = nonconformity(*drawn(asked.rows, asked.labels, 0))
    probabilities, labels = drawn(asked.rows, asked.labels, 1)
    for level in (0.5, 0.8, 0.9, 0.95):
        started = time.perf_counter()
        found = answers(probabilities, labels, held, level)
        seconds = time.perf_counter() - started
        print(
            f"level {level}: {seconds:.1f} s, covered {found.covered.mean():.3f}, label sets a row: median "
            f"{np.median(found.sizes):.0f}, mean {found.sizes.mean():.0f}, cut {found.cut.mean():.3f}"
        )


if __name__ == "__main__":
    main()
