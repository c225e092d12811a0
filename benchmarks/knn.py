"""k nearest neighbours beside FAISS's flat index, scikit-learn and the bare float32 product, in one run.

OMP_NUM_THREADS=2 python benchmarks/knn.py [--queries 20000] [--rows 200000] [--width 768] [--skip-peers]

Rows are drawn around 100 class means and lie in a float32 file. `knn` is a fit that chooses among 7 k and 4
temperatures (up to k = 200) on the queries: one search and all votes. FAISS (`pip install faiss-cpu`) searches for one
k, and holds the rows in memory; scikit-learn predicts for one k by brute force. Product: queries times all rows, in
blocks of the shape of the search. All take turns in this process; seconds of wall clock and of processor, the latter to
be read on a busy machine. Peak memory is that of a process of its own, mapped files apart.
Expected: knn not slower than FAISS, >= 60 % of the product rate, <= 1.2 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N_CLASSES, BLOCK = 100, 20_000


def write_rows(folder: Path, arguments: argparse.Namespace) -> None:
    random = np.random.default_rng(0)
    means = 0.5 * random.standard_normal((N_CLASSES, arguments.width), dtype=np.float32)
    for name, n in (("rows", arguments.rows), ("queries", arguments.queries)):
        X = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, arguments.width))
        y = random.integers(0, N_CLASSES, n)
        for start in range(0, n, BLOCK):
            part = slice(start, min(start + BLOCK, n))
            X[part] = random.standard_normal((part.stop - start, arguments.width), dtype=np.float32) + means[y[part]]
        X.flush()
        np.save(folder / f"{name}_y.npy", y)


def open_rows(folder: Path, name: str) -> tuple[Any, Any]:
    return np.load(folder / f"{name}.npy", mmap_mode="r"), np.load(folder / f"{name}_y.npy")


def fitted(folder: Path, metrics: list[str]) -> Any:
    from probe.heads.knn import KNearest

    head = KNearest(metrics=metrics, refit=False, device="cpu")
    return head.fit(*open_rows(folder, "rows"), validation=open_rows(folder, "queries"))


def product(folder: Path) -> None:
    import torch

    from probe.heads.shared.neighbours import BLOCKS

    n_queries, n_rows = BLOCKS["cpu"]
    queries = torch.from_numpy(np.array(open_rows(folder, "queries")[0]))
    X, room = open_rows(folder, "rows")[0], torch.empty(n_queries, n_rows)
    for start in range(0, len(X), n_rows):
        block = torch.from_numpy(np.array(X[start : start + n_rows]))
        for first in range(0, len(queries), n_queries):
            part = queries[first : first + n_queries]
            torch.mm(part, block.T, out=room[: len(part), : len(block)])


def faiss_search(folder: Path, k: int) -> None:
    import faiss

    X, queries = (np.array(open_rows(folder, name)[0]) for name in ("rows", "queries"))
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    index.search(queries, k)


def sklearn_predict(folder: Path, k: int) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    X, y = open_rows(folder, "rows")
    KNeighborsClassifier(k, algorithm="brute").fit(np.array(X), y).predict(np.array(open_rows(folder, "queries")[0]))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def peak_gigabytes(folder: Path) -> float:
    command = [sys.executable, __file__, "--child", "--folder", str(folder)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(folder: Path) -> None:
    """Prints the largest resident memory of a fit, mapped files apart, looked at every 20 ms."""
    largest, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            largest[0] = max(largest[0], int(status.split("RssAnon:")[1].split()[0]))

    watcher = threading.Thread(target=look)
    watcher.start()
    fitted(folder, ["cosine"])
    done.set()
    watcher.join()
    print(largest[0] / 2**20)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    write_rows(folder, arguments)
    works: dict[str, Callable[[], object]] = {
        "product": lambda: product(folder),
        "knn, cosine": lambda: fitted(folder, ["cosine"]),
        "knn, both metrics": lambda: fitted(folder, ["cosine", "euclidean"]),
    }
    if not arguments.skip_peers:
        works |= {
            "FAISS, k = 20": lambda: faiss_search(folder, 20),
            "FAISS, k = 200": lambda: faiss_search(folder, 200),
            "scikit-learn, k = 20": lambda: sklearn_predict(folder, 20),
        }
    product(folder)  # imports, and reads the file once
    times = {name: timed(work) for name, work in works.items()}
    n_flops = 2 * arguments.queries * arguments.rows * arguments.width
    print(f"{arguments.queries:,} queries x {arguments.rows:,} rows x {arguments.width}, "
          f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads; load average {os.getloadavg()[0]:.1f}")  # fmt: skip
    print("| | wall s | processor s | GFLOP per processor s | times knn, cosine (processor) | (wall) |")
    print("|---|---|---|---|---|---|")
    ours = times["knn, cosine"]
    for name, (wall, processor) in times.items():
        rate, ratios = n_flops / processor / 1e9, (processor / ours[1], wall / ours[0])
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {rate:.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    wall, processor = (100 * times["product"][i] / ours[i] for i in range(2))
    peak = peak_gigabytes(folder)
    print(f"share of the product rate: {processor:.0f} % (processor), {wall:.0f} % (wall); peak memory {peak:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--skip-peers", action="store_true", help="without FAISS and scikit-learn")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
