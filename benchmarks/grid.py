"""A grid of probes fitted as one problem, beside scikit-learn's LogisticRegression one by one; and a grid's extraction.

OMP_NUM_THREADS=2 python benchmarks/grid.py [--cells 1024] [--peer-cells 8] [--model <folder of a language model>]

Fit: `--cells` features of 2,000 rows x 128, two classes, 15 values of C from 1e-4 to 1e4, drawn with signals of every
strength. scikit-learn fits `--peer-cells` of them one C after the other, which is multiplied up. The objectives are
compared cell by cell, C by C: the largest excess of ours over scikit-learn's, relative.
Extraction (`--model`): all layers x {first, mean, last} against the last layer's mean alone, taking turns on the same
texts, each batch once with both; the ratio of the sums.
Seconds of wall clock and of processor, the latter to be read on a busy machine.
Expected: <= 20 s of wall clock on 2 cores, >= 4 times, objectives no higher; extraction <= 1.1 times.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

N, D = 2000, 128
CS = np.logspace(-4, 4, 15)


def drawn(n_cells: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, N)
    X = random.standard_normal((n_cells, N, D), dtype=np.float32)
    X *= np.linspace(0.1, 2, D, dtype=np.float32)
    for cell, strength in enumerate(np.linspace(0, 0.6, n_cells)):
        X[cell] += np.float32(strength) * random.standard_normal((2, D)).astype(np.float32)[y]
    return X, y


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - wall, time.process_time() - processor


def objective(X: Any, y: Any, C: float, coef: Any, intercept: Any) -> float:
    margins = (2 * y - 1) * (X.astype(np.float64) @ coef.ravel().astype(np.float64) + float(intercept))
    return float(C * np.logaddexp(0, -margins).sum() + 0.5 * (coef.astype(np.float64) ** 2).sum())


def fits(n_cells: int, n_peers: int) -> None:
    from sklearn.linear_model import LogisticRegression

    from probe.core.lazy import Cells
    from probe.heads.shared.cell_paths import CellPaths

    X, y = drawn(n_cells)
    cells = Cells({str(i): part for i, part in enumerate(X)})
    problems = CellPaths(2, "none", 1e-7, 100, "cpu")
    paths, wall, processor = timed(lambda: list(problems.solve(cells, y, np.tile(CS[:, None], n_cells))))
    print(f"grid of {n_cells}: {wall:.1f} s wall, {processor:.1f} s processor", flush=True)
    chosen = np.linspace(0, n_cells - 1, n_peers).astype(int)

    def one_by_one() -> list[Any]:
        return [[LogisticRegression(C=C, max_iter=1000).fit(X[cell], y) for C in CS] for cell in chosen]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peers, peer_wall, peer_processor = timed(one_by_one)
    factor = n_cells / n_peers
    print(
        f"scikit-learn, {n_peers} of them: {peer_wall:.1f} s wall, {peer_processor:.1f} s processor; all: "
        f"{factor * peer_wall / wall:.1f} times the grid (wall), {factor * peer_processor / processor:.1f} (processor)"
    )
    excess = [
        objective(X[cell], y, C, paths[cell].coefs[i], paths[cell].intercepts[i, 0])
        / objective(X[cell], y, C, peer.coef_, peer.intercept_[0])
        - 1
        for cell, row in zip(chosen, peers, strict=True)
        for i, (C, peer) in enumerate(zip(CS, row, strict=True))
    ]
    print(f"objectives above scikit-learn's by at most {max(excess):.1e}, on average by {np.mean(excess):.1e}")
    print(f"stopped short: {sum(not s.converged for path in paths for s in path.solutions)}")


def extraction(model: str, n_texts: int) -> None:
    from probe.backbones.huggingface import load

    random = np.random.default_rng(0)
    words = np.array(tuple("abcdefghijklmnopqrstuvwxyz"))
    texts = [" ".join(random.choice(words, random.integers(20, 240))) for _ in range(n_texts)]
    taps = [f"{layer}:{position}" for layer in ("embed", "blocks.*") for position in ("first", "mean", "last")]
    grid = load(model, taps=taps)
    last = load(model, pooling="mean")
    seconds = np.zeros((2, 2))
    for start in range(0, n_texts, 32):
        batch = grid.collate([grid.transform(text) for text in texts[start : start + 32]])  # type: ignore[arg-type]
        for turn in (0, 1) if start % 64 else (1, 0):
            backbone, kinds = ((last, ["pooled"]), (grid, list(grid.taps)))[turn]
            _, wall, processor = timed(partial(backbone.extract, batch, kinds))
            seconds[turn] += wall, processor
    (wall, processor), (grid_wall, grid_processor) = seconds
    print(
        f"extraction of {len(grid.taps)} cells: {grid_wall / wall:.3f} times the last layer alone (wall), "
        f"{grid_processor / processor:.3f} (processor)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1024)
    parser.add_argument("--peer-cells", type=int, default=8)
    parser.add_argument("--model")
    parser.add_argument("--texts", type=int, default=256)
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
    fits(arguments.cells, arguments.peer_cells)
    if arguments.model:
        extraction(arguments.model, arguments.texts)


if __name__ == "__main__":
    main()
