"""Closed-form heads on a float16 memmap of 1,000,000 x 512 rows: time beside the floor, peak memory, scikit-learn.

OMP_NUM_THREADS=2 python benchmarks/closed_form_heads.py [--rows 1000000] [--heads ncm naive_bayes lda ridge]

The floor is one pass in chunks: read, convert to float32, and sum (ncm, naive_bayes) or X'X (ridge, lda), by NumPy and
by torch, each at its best chunk. Everything takes turns in one process, medians of repeats, in seconds of wall clock
and of processor (the ones to read on a busy machine); peak memory is that of a process of its own per head.
scikit-learn's seconds are those on the wall, with the conversion of the rows to float32, and on float16 rows as such.
Expected: time <= 2x the floor, peak <= 1.5 GB, >= 5x scikit-learn on the rows it can hold.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SHALLOW, DEEP = ("ncm", "naive_bayes"), ("lda", "ridge")


def head_named(name: str) -> Any:
    from probe.heads.lda import LinearDiscriminant
    from probe.heads.naive_bayes import NaiveBayes
    from probe.heads.ncm import NearestClassMean
    from probe.heads.ridge import RidgeProbe

    heads = {"ncm": NearestClassMean, "naive_bayes": NaiveBayes, "lda": LinearDiscriminant, "ridge": RidgeProbe}
    return heads[name](device="cpu")


def peer_named(name: str) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import NearestCentroid

    return {
        "ncm": NearestCentroid(),
        "naive_bayes": GaussianNB(),
        "lda": LinearDiscriminantAnalysis("lsqr", shrinkage="auto"),
        "ridge": RidgeClassifierCV(np.logspace(-8, 8, 17)),
    }[name]


def write_rows(folder: Path, rows: int, width: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, width)).astype(np.float32) * 0.3
    X = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float16, shape=(rows, width))
    y = rng.integers(0, classes, rows)
    for start in range(0, rows, 20_000):
        part = slice(start, min(start + 20_000, rows))
        X[part] = rng.standard_normal((part.stop - start, width), dtype=np.float32) + means[y[part]]
    X.flush()
    np.save(folder / "y.npy", y)


def open_rows(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")


def floor(X: np.ndarray, library: str, chunk: int, product: bool) -> None:
    """One pass: read, convert to float32, sum or X'X."""
    import torch

    total: Any = 0.0
    for start in range(0, len(X), chunk):
        if library == "torch":
            block = torch.from_numpy(np.array(X[start : start + chunk])).float()
            total = total + (block.T @ block if product else block.sum(0))
        else:
            array = X[start : start + chunk].astype(np.float32)
            total = total + (array.T @ array if product else array.sum(0))


def in_turns(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median (wall, processor) seconds of each; they take turns, so that a busy machine slows all of them alike."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            wall, processor = time.perf_counter(), time.process_time()
            work()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: (statistics.median(t[0] for t in values), statistics.median(t[1] for t in values))
        for name, values in times.items()
    }


def peak_gigabytes(name: str, folder: Path) -> float:
    found = subprocess.run(
        [sys.executable, __file__, "--child", name, "--folder", str(folder)], capture_output=True, text=True, check=True
    )
    return float(found.stdout)


def child(name: str, folder: Path) -> None:
    head_named(name).fit(*open_rows(folder))
    # Not ru_maxrss, which a child inherits from the process that started it.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 2**20)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    write_rows(folder, arguments.rows, arguments.width, arguments.classes)
    X, y = open_rows(folder)
    few = min(arguments.peer_rows, arguments.rows)
    y_few = y[:few]
    X_rest, y_rest = X[-10_000:].astype(np.float32), y[-10_000:]
    print(f"{arguments.rows:,} x {arguments.width} float16, {arguments.classes} classes; wall s / processor s")
    print(
        "| head | on the memmap | floor NumPy | floor torch | peak GB | scikit-learn / ours, float32 / float16 | "
        "accuracy, ours / theirs |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    head_named("ncm").fit(X[:1000], y[:1000])  # imports torch
    for name in arguments.heads:
        product = name in DEEP
        chunks = (8192, 32768) if product else (1024, 16384)
        works: dict[str, Callable[[], object]] = {"head": partial(head_named(name).fit, X, y)}
        for library in ("numpy", "torch"):
            works |= {f"{library} {chunk}": partial(floor, X, library, chunk, product) for chunk in chunks}
        times = in_turns(works, arguments.repeats)
        numpy_floor, torch_floor = (
            min((times[f"{library} {chunk}"] for chunk in chunks), key=lambda t: t[1]) for library in ("numpy", "torch")
        )
        ours, theirs = head_named(name), peer_named(name)
        # All begin with the float16 file, whose rows scikit-learn holds: in float32, or as they are.
        few_works: dict[str, Callable[[], object]] = {
            "ours": partial(ours.fit, X[:few], y_few),
            "as they are": lambda theirs=theirs: theirs.fit(np.array(X[:few]), y_few),
            "theirs": lambda theirs=theirs: theirs.fit(X[:few].astype(np.float32), y_few),
        }
        pair = in_turns(few_works, arguments.repeats)
        ratios = [pair["theirs"][0] / pair["ours"][0], pair["as they are"][0] / pair["ours"][0]]
        cells = [f"{wall:.2f} / {processor:.2f}" for wall, processor in (times["head"], numpy_floor, torch_floor)]
        cells += [f"{peak_gigabytes(name, folder):.2f}", f"{ratios[0]:.1f} / {ratios[1]:.1f}"]
        cells += [f"{ours.score(X_rest, y_rest):.4f} / {theirs.score(X_rest, y_rest):.4f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--peer-rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--heads", nargs="+", default=[*SHALLOW, *DEEP])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
