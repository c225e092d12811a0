"""Training 13 learning rates at once (those of DINOv2's linear evaluation) against training one of them.

    python benchmarks/learning_rates.py [--rows 20000] [--width 384] [--classes 10 100] [--threads 2]

Rows come from a float16 memmap, as from the store; times are medians over repeats of one epoch, taken in turn.
Expected with 10 classes: at most 3. The 13 share reading, rounding and the overhead of a step, and not the products of
matrices: with more classes these take over on a processor, and the ratio nears 13.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from probe.heads.linear_sgd import LinearSGD

DINOV2 = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1]


def epoch_seconds(X: np.ndarray, y: np.ndarray, solver: str, lrs: list[float], device: str) -> float:
    """Wall time of one epoch in batches of 128. Validation rows are few and nothing is refitted: training is timed."""
    head = LinearSGD(solver=solver, lrs=lrs, epochs=1, batch_size=128, refit=False, device=device)
    start = time.perf_counter()
    head.fit(X, y, validation=(X[:10], y[:10]))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"rows": 20_000, "width": 384, "threads": 2, "repeats": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--solvers", nargs="+", default=["sgd", "adamw"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pooled.npy"
        np.save(path, rng.standard_normal((options.rows, options.width), dtype=np.float32).astype(np.float16))
        X = np.load(path, mmap_mode="r")
        for n_classes in options.classes:
            y = np.arange(options.rows) % n_classes
            for solver in options.solvers:
                seconds: dict[int, list[float]] = {1: [], 13: []}
                for repeat in range(options.repeats + 1):
                    for n_lrs, taken in seconds.items():
                        lrs = DINOV2 if n_lrs == 13 else [1e-3]
                        took = epoch_seconds(X, y, solver, lrs, options.device)
                        taken += [took] if repeat else []  # the first round warms up
                one, all_of_them = (float(np.median(taken)) for taken in seconds.values())
                print(
                    f"{solver:6} {n_classes:5} classes: one {one:.3f} s, 13 at once {all_of_them:.3f} s, "
                    f"ratio {all_of_them / one:.2f}"
                )


if __name__ == "__main__":
    main()
