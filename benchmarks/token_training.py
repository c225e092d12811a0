"""Moment probing with its defaults, float32 and with the options that make it faster: seconds, and test accuracy.

    OMP_NUM_THREADS=2 python benchmarks/token_training.py                        # 5,000 rows: minutes on 2 idle cores
    OMP_NUM_THREADS=1 python benchmarks/token_training.py --rows 512 --epochs 4  # processor seconds on a busy machine

Targets at 5,000 rows x 9 tokens x 1,280, 30 epochs, 2 cores: 150 s in float32, 90 s with products=bfloat16 and
early_drop; test accuracy within its interval. `floor` is the time of the products of matrices with the tokens alone,
in float32. Rows are synthetic: the tokens of a class share a covariance that no mean shows.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch

from probe.heads.moment_probing import MomentProbing

SHARED = np.float32(0.05)
"""Size of what the tokens of a class share: at ten times this every row is right, and nothing is compared."""


def rows(n: int, n_tokens: int, width: int, n_classes: int, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    rng, shared = np.random.default_rng(seed), np.random.default_rng(0)
    y = rng.integers(0, n_classes, n)
    mixing = SHARED * shared.standard_normal((n_classes, 8, width), dtype=np.float32)
    tokens = rng.standard_normal((n, n_tokens, width), dtype=np.float32)
    for k in range(n_classes):
        mine = y == k
        tokens[mine] += rng.standard_normal((mine.sum(), n_tokens, 8), dtype=np.float32) @ mixing[k]
    tokens = tokens.astype(np.float16)
    return {"pooled": tokens.mean(axis=1, dtype=np.float32).astype(np.float16), "tokens": tokens}, y


def floor_seconds(n_steps: int, batch: int, n_tokens: int, width: int, hidden: int = 512) -> tuple[float, float]:
    """Wall and processor seconds of so many steps' products with the tokens, forwards and backwards."""
    tokens, weights = torch.randn(batch * n_tokens, width), torch.randn(width, hidden)
    slopes, measured = torch.randn(batch * n_tokens, hidden), 50
    start, processor = time.perf_counter(), time.process_time()
    for _ in range(measured):
        tokens @ weights
        tokens.T @ slopes
    share = n_steps / measured
    return (time.perf_counter() - start) * share, (time.process_time() - processor) * share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"rows": 5000, "tokens": 9, "width": 1280, "classes": 10, "epochs": 30, "test": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    X, y = rows(options.rows, options.tokens, options.width, options.classes, 1)
    test, y_test = rows(options.test, options.tokens, options.width, options.classes, 2)
    # Three rates on nine tenths, one on all rows.
    n_steps = options.epochs * (3 * -(-options.rows * 9 // 640) + -(-options.rows // 64))
    wall, processor = floor_seconds(n_steps, 64, options.tokens, options.width)
    print(f"{'floor':30s} {wall:7.1f} s wall {processor:7.1f} s processor")
    variants: dict[str, dict[str, Any]] = {
        "float32": {},
        "bfloat16": {"products": "bfloat16"},
        "bfloat16, early drop": {"products": "bfloat16", "early_drop": True},
    }
    for name, parameters in variants.items():
        head = MomentProbing(epochs=(options.epochs,), **parameters)
        start, processor = time.perf_counter(), time.process_time()
        head.fit(X, y)
        wall, processor = time.perf_counter() - start, time.process_time() - processor
        accuracy = head.score(test, y_test)
        error = 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(y_test))
        print(f"{name:30s} {wall:7.1f} s wall {processor:7.1f} s processor, accuracy {accuracy:.3f} +- {error:.3f}")
        print(f"{'':30s} {head.selection_['searched']}", flush=True)


if __name__ == "__main__":
    main()
