"""Times `KernelProbe` over widths and penalties, and `LPPlusPlus` on one few-shot task.

python benchmarks/kernel.py                  # 5,000 rows, 10 widths x 17 penalties; 16 shots of 100 classes, 1,024 wide
python benchmarks/kernel.py --rows 1500      # a machine that others use: the time grows as the cube of the rows
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from linear_probe import power_law, timed
from threadpoolctl import threadpool_limits

from probe.heads.kernel import KernelProbe
from probe.heads.lp_plus_plus import LPPlusPlus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    X, y = power_law(options.rows, options.width, 10, 0.05)
    n = options.rows // 10
    head = KernelProbe(widths=np.geomspace(0.1, 10, 10).tolist(), alphas=17, device="cpu")
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((100, 1024))
    labels = np.arange(1600) % 100
    rows = texts[labels] + 4 * rng.standard_normal((1600, 1024))
    with threadpool_limits(options.threads):
        _, wall, cpu = timed(lambda: head.fit(X[n:], y[n:], validation=(X[:n], y[:n])))
        print(f"kernel, {options.rows} rows, 10 widths x 17 penalties: {wall:.1f} s, {cpu:.1f} of CPU", flush=True)
        probe = LPPlusPlus(class_features=texts, device="cpu")
        _, wall, cpu = timed(lambda: probe.fit(rows, labels, validation=(rows[:100], labels[:100])))
    what = f"lp_plus_plus, 16 shots x 100 classes x 1,024, {len(probe.strengths)} strengths"
    print(f"{what}: {wall:.1f} s, {cpu:.1f} of CPU")


if __name__ == "__main__":
    main()
