"""Times the whole path of C of `LinearSVM` against scikit-learn's `LinearSVC`, one C at a time, on the same features.

python benchmarks/svm.py                                    # 20,000 x 768, 20 classes, 15 values of C
python benchmarks/svm.py --n 4000 --d 256 --classes 10      # a machine that others use

Prints seconds, and objectives against scikit-learn's (its intercept has a penalty of its own: ours is left out of
both). scikit-learn is timed at `--peer-Cs` values spread evenly over the path; ratios compare seconds per C.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from linear_probe import power_law, timed
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from probe.heads.svm import LinearSVM


def objective(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray, C: float) -> float:
    signs = np.where(y[:, None] == np.unique(y), 1, -1)
    scores = X.astype(np.float64) @ coef.astype(np.float64).T + intercept
    return float(C * (np.maximum(0, 1 - signs * scores) ** 2).sum() + 0.5 * (coef.astype(np.float64) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--label-noise", type=float, default=0.05)
    parser.add_argument("--peer-Cs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    X, y = power_law(options.n, options.d, options.classes, options.label_noise)
    Cs = np.logspace(-4, 3, 15)
    with threadpool_limits(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = slice(0, options.n // 10)
        head, wall, cpu = timed(lambda: LinearSVM(Cs=Cs, refit=False).fit(X, y, validation=(X[part], y[part])))
        print(f"LinearSVM, all 15: {wall:.1f} s, {cpu:.1f} of CPU; Newton steps {head.n_iter_.tolist()}", flush=True)
        walls, cpus = [], []
        for i in np.linspace(0, 14, options.peer_Cs).astype(int):
            peer, peer_wall, peer_cpu = timed(lambda C=Cs[i]: LinearSVC(C=C).fit(X, y))
            ours = objective(X, y, head.coefs_path_[i], head.intercepts_path_[i], Cs[i])
            theirs = objective(X, y, peer.coef_, peer.intercept_, Cs[i])
            print(
                f"LinearSVC, C = {Cs[i]:.3g}: {peer_wall:.1f} s; ours / theirs - 1 = {ours / theirs - 1:.1e}",
                flush=True,
            )
            walls.append(peer_wall)
            cpus.append(peer_cpu)
    print(f"ratio of seconds per C: wall {np.mean(walls) * 15 / wall:.1f}, CPU {np.mean(cpus) * 15 / cpu:.1f}")


if __name__ == "__main__":
    main()
