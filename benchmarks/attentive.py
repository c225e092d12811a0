"""Efficient probing from cached tokens: peak resident memory of an epoch, and its time against the same rows in memory.

    python benchmarks/attentive.py                       # 50,000 rows x 64 tokens x 384: some minutes on 2 cores
    python benchmarks/attentive.py --dtype int8

Targets: at most 1.5 GB resident, and a ratio of at most 1.2. As in `moment_probing.py`, the ratio is taken over all
rows, block by block from either source in turn, so that what else the machine does falls on both; rows in memory are of
the dtype that heads read from the file, float16, or what int8 unpacks to. A machine that is busy or slow:
`--rows 5000 --block-rows 1000`.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moment_probing import peak_memory, write_rows

from probe.core.arrays import RowSubset
from probe.core.int8 import pack
from probe.core.lazy import Unpacked
from probe.heads.attentive import Attentive

RELEASED_EPOCHS = 90


def write_packed(path: Path, shape: tuple[int, ...], seed: int) -> Unpacked:
    """Writes tokens as bytes (one random block, repeated), and maps them for reading."""
    block = pack(torch.randn(100, *shape[1:], generator=torch.Generator().manual_seed(seed))).numpy()
    stored = (*shape[:-1], block.shape[-1])
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|i1", "fortran_order": False, "shape": stored})
        for start in range(0, shape[0], len(block)):
            file.write(block[: shape[0] - start].tobytes())
    return Unpacked(np.load(path, mmap_mode="r"))


def epoch_seconds(X: Any, y: np.ndarray, n_queries: int, device: str) -> float:
    """Of one epoch of one candidate, what `fit` does besides included."""
    head = Attentive(
        options={"n_queries": n_queries}, epochs=1, learning_rates=(1e-3,), weight_decays=(1e-2,), device=device
    )
    start = time.perf_counter()
    head.fit(X, y)
    return time.perf_counter() - start


def backbone_macs(n_tokens: int, width: int, n_layers: int = 12) -> int:
    """Multiply-adds of a vision transformer of this width on an image of so many patches."""
    return n_layers * (12 * n_tokens * width**2 + 2 * n_tokens**2 * width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rows": 50_000, "tokens": 64, "width": 384, "queries": 32, "threads": 2, "block-rows": 5000}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="float16", choices=["float16", "int8"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", default=None, help="where the file is written")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = (options.rows, options.tokens, options.width)
    y = np.random.default_rng(0).integers(0, 10, options.rows)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write: Any = write_packed if options.dtype == "int8" else write_rows
        mapped = write(Path(folder) / "tokens.npy", shape, 2)
        size = (Path(folder) / "tokens.npy").stat().st_size / 1e9
        print(f"{options.rows} rows of {options.tokens} tokens x {options.width}, {options.dtype}: {size:.2f} GB")
        print(f"{options.queries} queries, {options.threads} threads, {peak_memory():.2f} GB resident before")
        seconds = epoch_seconds(mapped, y, options.queries, options.device)
        print(
            f"one epoch from the file: {seconds:.0f} s, peak {peak_memory():.2f} GB resident (target 1.5)", flush=True
        )
        once = options.rows * backbone_macs(options.tokens, options.width) / 1e15
        print(
            f"backbone (ViT of 12 layers): {once:.2f} PMAC once, {RELEASED_EPOCHS * once:.1f} in the released protocol"
        )
        order, totals, ratios = np.random.default_rng(3).permutation(options.rows), {"file": 0.0, "memory": 0.0}, []
        for block, start in enumerate(range(0, options.rows, options.block_rows)):
            rows = np.sort(order[start : start + options.block_rows])
            taken = {}
            for source in sorted(totals, reverse=block % 2 == 0):
                X: Any = RowSubset(mapped, rows)
                if source == "memory":
                    X = np.array(X)
                taken[source] = epoch_seconds(X, y[rows], options.queries, options.device)
                totals[source] += taken[source]
            ratios.append(taken["file"] / taken["memory"])
        whole, median = totals["file"] / totals["memory"], np.median(ratios)
        print(f"one epoch in blocks: file {totals['file']:.1f} s, memory {totals['memory']:.1f} s")
        print(f"ratio {whole:.3f}, median of {len(ratios)} blocks {median:.3f} (target 1.2)")


if __name__ == "__main__":
    main()
