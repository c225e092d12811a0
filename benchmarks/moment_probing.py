"""Moment probing from a memmap: peak resident memory of one epoch, and its time against the same rows in memory.

    python benchmarks/moment_probing.py [--rows 50000] [--tokens 64] [--width 384] [--threads 2]

A machine that is busy or slow: `--epoch-rows 2000 --block-rows 640` train on some rows of the same file.
Expected: at most 2 GB resident, and a ratio of at most 1.2. The file (2.5 GB as above) is larger than that.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.arrays import RowSubset
from probe.heads.moment_probing import MomentProbing


def write_rows(path: Path, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Writes float16 rows (one random block, repeated) without mapping the file, and maps it for reading."""
    block = np.random.default_rng(seed).standard_normal((1000, *shape[1:]), dtype=np.float32).astype(np.float16)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for start in range(0, shape[0], len(block)):
            file.write(block[: shape[0] - start].tobytes())
    return np.load(path, mmap_mode="r")


def peak_memory() -> float:
    """Peak resident memory of this process in GB; file pages that were mapped count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def epoch_seconds(X: dict[str, Any], y: np.ndarray) -> float:
    head = MomentProbing(epochs=(1,), learning_rates=(1e-4,), warmup_epochs=0, device="cpu")
    start = time.perf_counter()
    head.fit(X, y)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rows": 50_000, "tokens": 64, "width": 384, "threads": 2, "epoch-rows": 50_000, "blocks": 6}
    for name, default in {**defaults, "block-rows": 2560}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", default=None, help="where the file is written")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    y = np.random.default_rng(0).integers(0, 10, options.rows)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        mapped = {
            "pooled": write_rows(Path(folder) / "pooled.npy", (options.rows, options.width), 1),
            "tokens": write_rows(Path(folder) / "tokens.npy", (options.rows, options.tokens, options.width), 2),
        }
        print(f"file {mapped['tokens'].nbytes / 1e9:.2f} GB, before training {peak_memory():.2f} GB resident")
        order = np.random.default_rng(3).permutation(options.rows)
        some = order[: options.epoch_rows]
        seconds = epoch_seconds({kind: RowSubset(array, some) for kind, array in mapped.items()}, y[some])
        print(f"one epoch of {len(some)} rows from the memmap: {seconds:.0f} s, peak {peak_memory():.2f} GB resident")
        # Blocks from either source in turn, so that whatever else the machine does falls on both.
        size, totals = options.block_rows, {"memmap": 0.0, "memory": 0.0}
        for block in range(options.blocks):
            rows = order[block * size : (block + 1) * size]
            for source in sorted(totals, reverse=block % 2 == 0):
                X: dict[str, Any] = {kind: RowSubset(array, rows) for kind, array in mapped.items()}
                if source == "memory":
                    X = {kind: np.array(array) for kind, array in X.items()}
                totals[source] += epoch_seconds(X, y[rows])
        print(f"memmap / memory: {totals['memmap'] / totals['memory']:.3f} ({totals})")


if __name__ == "__main__":
    main()
