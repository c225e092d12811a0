"""Ridge on numbers: 17 penalties and their leave-one-out errors on a float16 memmap, beside the floor and RidgeCV.

OMP_NUM_THREADS=2 python benchmarks/ridge_numbers.py [--rows 1000000] [--width 512] [--columns 10] [--peer-rows 100000]

The floor is one pass in chunks: read, convert to float32, X'X and X'Y, by NumPy and by torch, each at its best chunk.
Everything takes turns in one process, medians of repeats, in seconds of wall clock and of processor, the ones to read
on a busy machine. scikit-learn's RidgeCV is fitted to as many rows as are asked for, in float64, beside the head on the
same rows: by its singular values, which take two more matrices of their size. Expected: fit <= 2x the floor, >= 10x
RidgeCV.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def write_rows(folder: Path, rows: int, width: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(width, columns)).astype(np.float32) / np.sqrt(width)
    X = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float16, shape=(rows, width))
    Y = np.empty((rows, columns), dtype=np.float32)
    for start in range(0, rows, 20_000):
        part = slice(start, min(start + 20_000, rows))
        drawn = rng.standard_normal((part.stop - start, width), dtype=np.float32)
        X[part], Y[part] = drawn, drawn @ weights + rng.standard_normal((len(drawn), columns), dtype=np.float32)
    X.flush()
    np.save(folder / "y.npy", Y)


def floor(X: np.ndarray, Y: np.ndarray, library: str, chunk: int) -> None:
    """One pass: read, convert to float32, X'X and X'Y."""
    import torch

    for start in range(0, len(X), chunk):
        part = slice(start, start + chunk)
        if library == "torch":
            block = torch.from_numpy(np.array(X[part])).float()
            _ = block.T @ block, block.T @ torch.from_numpy(Y[part])
        else:
            array = X[part].astype(np.float32)
            _ = array.T @ array, array.T @ Y[part]


def timed(act: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of wall clock and of processor, medians."""
    walls, processor = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(processor)


def main() -> None:
    from sklearn.linear_model import RidgeCV

    from probe.heads.shared.ridge_numbers import RidgeNumbers, penalties

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 1_000_000), ("width", 512), ("columns", 10), ("peer-rows", 100_000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder), given.rows, given.width, given.columns)
        X, Y = np.load(Path(folder) / "x.npy", mmap_mode="r"), np.load(Path(folder) / "y.npy")
        floors = [timed(lambda lib=lib, c=c: floor(X, Y, lib, c), given.repeats)
                  for lib in ("numpy", "torch") for c in (5_000, 20_000)]  # fmt: skip
        fit = timed(lambda: RidgeNumbers(device="cpu").fit(X, Y), given.repeats)
        best = [min(column) for column in zip(*floors, strict=True)]
        print(f"{given.rows} x {given.width}, {given.columns} columns, 17 penalties and leave-one-out errors")
        for what, k in (("wall clock", 0), ("processor", 1)):
            print(f"{what}: floor {best[k]:.2f} s, fit {fit[k]:.2f} s, {fit[k] / best[k]:.2f} times the floor")
        n = min(given.peer_rows, given.rows)
        few, numbers = np.array(X[:n]), Y[:n]
        ours = timed(lambda: RidgeNumbers(device="cpu").fit(few, numbers), given.repeats)
        peer = timed(lambda: RidgeCV(penalties(17)).fit(few.astype(np.float64), numbers), 1)
        for what, k in (("wall clock", 0), ("processor", 1)):
            print(f"{what}, {n} rows: fit {ours[k]:.2f} s, RidgeCV {peer[k]:.2f} s, {peer[k] / ours[k]:.1f} times")


if __name__ == "__main__":
    main()
