"""Seconds of RanPAC's sums and of all its penalties, and its peak memory.

    OMP_NUM_THREADS=2 python benchmarks/ranpac.py [--rows 50000] [--width 768] [--projected 10000]

`gram` is the lower half of G = H'H and nothing else, in float64, of projected rows in blocks of the head's shape; `fit`
is the head: projection, sums, 17 penalties and the last solution. Expected: fit <= 2.2 times gram, <= 3.5 GB.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.linalg import blas

from probe.heads.ranpac import RandomProjection

N_CLASSES = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("rows", 50_000), ("width", 768), ("projected", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    random = np.random.default_rng(0)
    y = np.arange(asked.rows) % N_CLASSES
    means = random.standard_normal((N_CLASSES, asked.width), dtype=np.float32)
    X = random.standard_normal((asked.rows, asked.width), dtype=np.float32) + means[y]
    clocks = []
    head = RandomProjection(asked.projected)
    head._check_fit(X, y)
    head._begin()
    H = next(head._projected(X))[1]
    blocks = [min(len(H), asked.rows - start) for start in range(0, asked.rows, len(H))]

    def gram_alone() -> None:
        for n in blocks:
            blas.dsyrk(1.0, H[:n].T, beta=1.0, c=head._sums.gram, lower=1, overwrite_c=1)

    for work in (gram_alone, lambda: RandomProjection(asked.projected).fit(X, y)):
        started = time.perf_counter(), time.process_time()
        work()
        clocks.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        head._sums = None
    (gram, gram_processor), (fit, fit_processor) = clocks
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"gram {gram:.1f} s ({gram_processor:.1f} s of processor), fit {fit:.1f} s ({fit_processor:.1f} s)")
    print(f"ratio {fit / gram:.2f} (processor {fit_processor / gram_processor:.2f}), peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
