"""Seconds of the scores of unknown classes: one read of the training rows for statistics, then each score.

    python benchmarks/ood.py 1000000 50000

takes so many training rows of 512 features in 10 classes, and rows to score. Neighbours are left out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from probe.heads.lda import LinearDiscriminant
from probe.ood.shared.score import Known, Rows, scores

WIDTH, N_CLASSES, BLOCK = 512, 10, 50_000


class Counted:
    """An array that counts how often its rows are read."""

    def __init__(self, array: np.memmap):
        self.array, self.n_read = array, 0
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> np.ndarray:
        found = self.array[rows]
        self.n_read += len(found)
        return found


def main(n_train: int, n_scored: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(N_CLASSES, WIDTH))
    with tempfile.TemporaryDirectory() as folder:
        X = np.lib.format.open_memmap(Path(folder) / "X.npy", "w+", np.float32, (n_train, WIDTH))
        y = np.arange(n_train) % N_CLASSES
        for start in range(0, n_train, BLOCK):
            part = slice(start, min(start + BLOCK, n_train))
            X[part] = rng.standard_normal((part.stop - start, WIDTH), dtype=np.float32) + centres[y[part]]
        head = LinearDiscriminant(device="cpu").fit(X[:BLOCK], y[:BLOCK])
        counted = Counted(X)
        known, rows = Known(counted, y, head), Rows(X[:n_scored], head.logits(X[:n_scored]))
        started = time.perf_counter()
        _ = known.moments
        print(f"statistics: {time.perf_counter() - started:.1f} s")
        total, processor = 0.0, time.process_time()
        for name, score in scores().items():
            if name in ("knn", "nnguide"):
                continue
            clocks = [time.perf_counter()]
            function = score.fit(known)
            clocks.append(time.perf_counter())
            function(rows)
            clocks.append(time.perf_counter())
            fitted, scored = np.diff(clocks)
            total += clocks[-1] - clocks[0]
            print(f"{name}: fit {fitted:.2f} s, rows {scored:.2f} s")
        processor = time.process_time() - processor
        n_reads = counted.n_read / n_train
        print(
            f"all scores: {total:.1f} s ({processor:.1f} s of processor); training rows were read {n_reads:.2f} times"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
