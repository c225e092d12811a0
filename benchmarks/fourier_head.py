"""An epoch of fourier_head beside one of a plain linear layer over the same bins: the loss of all rows, its gradient.

OMP_NUM_THREADS=2 python benchmarks/fourier_head.py [--rows 20000] [--width 512] [--bins 32] [--frequencies 8]

Both are the heads' own losses, cross-entropy over the bins on a linear layer in float64: the outputs of `binned` are
the logits, those of `fourier_head` the coefficients of the density. They take turns in one process, medians of repeats,
in seconds of wall clock and of processor, the ones to read on a busy machine. Target: at most 1.2 times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable


def epoch(head: object, layer: object, rows: object, bins: object) -> Callable[[], None]:
    def act() -> None:
        layer.grad = None
        head._mean_loss(rows @ layer.T, bins).backward()

    return act


def main() -> None:
    import torch

    from probe.heads.binned import BinnedRegression
    from probe.heads.fourier_head import FourierHead

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rows": 20_000, "width": 512, "bins": 32, "frequencies": 8, "repeats": 15}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.manual_seed(0)
    rows = torch.randn(given.rows, given.width + 1, dtype=torch.float64)
    bins = torch.randint(given.bins, (given.rows,))

    def layer(width: int) -> torch.Tensor:
        return (torch.randn(width, given.width + 1, dtype=torch.float64) / 100).requires_grad_()

    fourier = FourierHead([given.frequencies], n_bins=given.bins)
    acts = {"linear": epoch(BinnedRegression(n_bins=given.bins), layer(given.bins), rows, bins),
            "fourier": epoch(fourier, layer(2 * (given.frequencies + 1)), rows, bins)}  # fmt: skip
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    for _ in range(given.repeats):
        for name, act in acts.items():
            wall, processor = time.perf_counter(), time.process_time()
            act()
            spent[name].append((time.perf_counter() - wall, time.process_time() - processor))
    print(f"{given.rows} x {given.width}, {given.bins} bins, {given.frequencies} frequencies")
    for k, what in enumerate(("wall clock", "processor")):
        linear, other = (statistics.median(times[k] for times in spent[name]) for name in ("linear", "fourier"))
        print(f"{what}: linear {1000 * linear:.1f} ms, fourier {1000 * other:.1f} ms, {other / linear:.2f} times")


if __name__ == "__main__":
    main()
