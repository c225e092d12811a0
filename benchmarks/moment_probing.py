"""Moment probing from a memmap: peak resident memory of one epoch, and its time against the same rows in memory.

    python benchmarks/moment_probing.py                  # 50,000 rows x 64 tokens: about 4 minutes on 2 cores
    python benchmarks/moment_probing.py --tokens 197     # about 7 minutes

Expected: at most 2 GB resident, and a ratio of at most 1.2. Both files (2.5 and 7.6 GB) are larger than that. The
ratio is taken over all rows, block by block from either source in turn, so that what else the machine does falls on
both. A narrower module (`--hidden-width 256`) computes less and reads the same: its ratio is the harder one to keep.
A machine that is busy or slow: `--rows 5000 --block-rows 1000`.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.core.arrays import RowSubset
from probe.heads.moment_probing import MomentProbing


def write_rows(path: Path, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Writes float16 rows (one random block, repeated) without mapping the file, and maps it for reading."""
    block = np.random.default_rng(seed).standard_normal((100, *shape[1:]), dtype=np.float32).astype(np.float16)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for start in range(0, shape[0], len(block)):
            file.write(block[: shape[0] - start].tobytes())
    return np.load(path, mmap_mode="r")


def peak_memory() -> float:
    """Peak resident memory of this process in GB; file pages that were mapped count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def epoch_seconds(X: dict[str, Any], y: np.ndarray, hidden_width: int, device: str) -> float:
    head = MomentProbing(hidden_width=hidden_width, epochs=(1,), learning_rates=(1e-4,), warmup_epochs=0, device=device)
    start = time.perf_counter()
    head.fit(X, y)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rows": 50_000, "tokens": 64, "width": 384, "hidden-width": 512, "threads": 2, "block-rows": 5000}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", default=None, help="where the file is written")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    y = np.random.default_rng(0).integers(0, 10, options.rows)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        mapped = {
            "pooled": write_rows(Path(folder) / "pooled.npy", (options.rows, options.width), 1),
            "tokens": write_rows(Path(folder) / "tokens.npy", (options.rows, options.tokens, options.width), 2),
        }
        size, before = mapped["tokens"].nbytes / 1e9, peak_memory()
        print(
            f"{options.rows} rows of {options.tokens} tokens x {options.width}: {size:.2f} GB, {before:.2f} GB resident"
        )
        print(f"hidden width {options.hidden_width}, {options.threads} threads")
        seconds = epoch_seconds(mapped, y, options.hidden_width, options.device)
        print(
            f"one epoch from the memmap: {seconds:.0f} s, peak {peak_memory():.2f} GB resident (target 2)", flush=True
        )
        order, totals, ratios = np.random.default_rng(3).permutation(options.rows), {"memmap": 0.0, "memory": 0.0}, []
        for block, start in enumerate(range(0, options.rows, options.block_rows)):
            rows = np.sort(order[start : start + options.block_rows])
            taken = {}
            for source in sorted(totals, reverse=block % 2 == 0):
                X: dict[str, Any] = {kind: RowSubset(array, rows) for kind, array in mapped.items()}
                if source == "memory":
                    X = {kind: np.array(array) for kind, array in X.items()}
                taken[source] = epoch_seconds(X, y[rows], options.hidden_width, options.device)
                totals[source] += taken[source]
            ratios.append(taken["memmap"] / taken["memory"])
        whole, median = totals["memmap"] / totals["memory"], np.median(ratios)
        print(f"one epoch in blocks: memmap {totals['memmap']:.1f} s, memory {totals['memory']:.1f} s")
        print(f"ratio {whole:.3f}, median of {len(ratios)} blocks {median:.3f} (target 1.2)")


if __name__ == "__main__":
    main()
