"""Times the whole path of C of `LinearProbe` against scikit-learn, one C at a time, on the same features.

python benchmarks/linear_probe.py --n 20000 --d 768 --classes 100
python benchmarks/linear_probe.py --n 2000 --d 2048 --classes 50
python benchmarks/linear_probe.py --classes 10 --peers lbfgs newton-cholesky sklearnex
python benchmarks/linear_probe.py --cifar10 FOLDER      # features of tiny: 45,000 rows to train, 5,000 to choose C
python benchmarks/linear_probe.py --n 50000 --d 512 --classes 10000 --Cs 10 --peer-Cs 0 --progress

Prints seconds on the wall and of CPU time, the objective against scikit-learn's, and test accuracy. scikit-learn is
timed at `--peer-Cs` values spread evenly over the path; ratios compare seconds per C. `--peer-Cs 45` times them all.
`--progress` prints each solution as it is found, with the largest memory so far.

Peers are solvers of scikit-learn (`newton-cholesky` wants few classes: its Hessian has K d rows), or `sklearnex`, lbfgs
of Intel's extension where that is installed. `floor` is the time of the products of one pass over the rows, forwards
and backwards, for every Newton step of the path.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
import torch
from dense import Peak
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from probe.heads.linalg import newton
from probe.heads.linear import LinearProbe


def power_law(n: int, d: int, n_classes: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes in float32, variances 1, 1/2, 1/3, ... along random axes; some labels drawn at random."""
    random = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.5
    axes, _ = np.linalg.qr(random.standard_normal((d, d)))
    labels = random.integers(n_classes, size=n)
    means = 0.15 * random.standard_normal((n_classes, d))
    X = (random.standard_normal((n, d)) + means[labels]) * scale * np.sqrt(d / (scale**2).sum())
    labels = np.where(random.random(n) < noise, random.integers(n_classes, size=n), labels)
    return (X @ axes.T).astype(np.float32), labels


def features_of_tiny(folder: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows and labels of CIFAR-10, train then test, extracted where the cache lacks them; how many are of train."""
    from probe.backbones.tiny import TinyBackbone
    from probe.datasets.parquet import load
    from probe.features.store import FeatureStore

    backbone, dataset, store = TinyBackbone(), load(folder), FeatureStore()
    parts = [store.get(backbone, dataset, name, ["pooled"]) for name in ("train", "test")]
    X = np.concatenate([np.asarray(part.arrays["pooled"]) for part in parts])
    return X, np.concatenate([part.labels for part in parts]), len(parts[0].labels)


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, seconds on the wall and seconds of CPU time over all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def classifier(peer: str, C: float) -> Any:
    """Unfitted; None where its package is not installed."""
    if peer != "sklearnex":
        return LogisticRegression(C=C, solver=peer, max_iter=1000)
    try:
        from sklearnex.linear_model import LogisticRegression as Extended
    except ImportError:
        return None
    return Extended(C=C, solver="lbfgs", max_iter=1000)


def floor_seconds(n: int, d: int, n_classes: int, n_passes: int) -> float:
    """Wall seconds of so many passes' products, in float32, from those of as many rows as have 2**26 logits."""
    part = max(1, min(n, 2**26 // n_classes))
    X, W, R = torch.randn(part, d), torch.randn(d, n_classes), torch.randn(part, n_classes)
    X @ W
    start = time.perf_counter()
    for _ in range(3):
        X @ W
        R.T @ X
    return (time.perf_counter() - start) / 3 * n_passes * n / part


def tell_progress(peak: Peak) -> None:
    """Has the solver print what each C took, once it is solved."""
    solve, start = newton._newton, time.perf_counter()

    def told(loss: Any, point: Any, C: float, *others: Any) -> Any:
        cpu = time.process_time()
        point, found = solve(loss, point, C, *others)
        print(
            f"C = {C:.3g}: {found.n_iter} steps, {time.process_time() - cpu:.0f} s of CPU; {found.value:.8g}, at most "
            f"{found.gap / found.value:.1e} of it above the optimum; {time.perf_counter() - start:.0f} s since the "
            f"start, peak {peak.n_bytes / 1e9:.2f} GB",
            flush=True,
        )
        return point, found

    newton._newton = told


def objective(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray, C: float) -> float:
    logits = log_softmax(X.astype(np.float64) @ coef.astype(np.float64).T + intercept, axis=1)
    return float(0.5 * (coef.astype(np.float64) ** 2).sum() - C * logits[np.arange(len(y)), y].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--cifar10", help="folder of its parquet files: real features instead of drawn ones")
    parser.add_argument("--label-noise", type=float, default=0.05)
    parser.add_argument("--Cs", type=int, default=45)
    parser.add_argument("--peer-Cs", type=int, default=5)
    parser.add_argument("--peers", nargs="+", default=["lbfgs"])
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.cifar10:
        X, y, n_train = features_of_tiny(options.cifar10)
        n, n_test, options.d, options.classes = n_train - 5000, 5000, X.shape[1], len(np.unique(y))
        order = np.concatenate([np.random.default_rng(0).permutation(n_train), np.arange(n_train, len(y))])
        X, y = X[order], y[order]
    else:
        n, n_test = options.n, max(1000, options.n // 10)
        X, y = power_law(n + 2 * n_test, options.d, options.classes, options.label_noise)
    train, validation, test = slice(0, n), slice(n, n + n_test), slice(n + n_test, None)

    head = LinearProbe(Cs=options.Cs, refit=False, device="cpu")
    with threadpool_limits(options.threads), Peak() as peak:
        if options.progress:
            tell_progress(peak)
        ours = [
            timed(lambda: head.fit(X[train], y[train], validation=(X[validation], y[validation])))[1:]
            for _ in range(options.repeats)
        ]
        wall, cpu = (statistics.median(seconds) for seconds in zip(*ours, strict=True))
        print(
            f"{platform.machine()}, {options.threads} threads; torch {torch.__version__}, scikit-learn "
            f"{sklearn.__version__}; {options.repeats} repeat(s)\n"
        )
        print(
            f"| n | d | K | solver | C | seconds | CPU seconds | objective / scikit-learn's - 1 | accuracy |\n"
            f"|---|---|---|---|---|---|---|---|---|\n"
            f"| {n} | {options.d} | {options.classes} | LinearProbe, {peak.n_bytes / 1e9:.2f} GB | all {options.Cs} "
            f"| {wall:.1f} | {cpu:.1f} | | {head.score(X[test], y[test]):.3f} (C = {head.C_:.3g}) |",
            flush=True,
        )
        n_steps = int(head.n_iter_.sum()) + len(head.Cs_)
        floor = floor_seconds(n, options.d, options.classes, n_steps)
        print(f"| {n} | {options.d} | {options.classes} | floor, {n_steps} passes | | {floor:.1f} | | | |")
        for peer in options.peers if options.peer_Cs else ():
            against(peer, head, X, y, train, test, options, wall, cpu)


def against(
    name: str,
    head: LinearProbe,
    X: np.ndarray,
    y: np.ndarray,
    train: slice,
    test: slice,
    options: argparse.Namespace,
    wall: float,
    cpu: float,
) -> None:
    """Prints what a peer takes at some of the Cs, and what that is beside ours."""
    if classifier(name, 1.0) is None:
        print(f"{name} is not installed: pip install scikit-learn-intelex")
        return
    n, walls, cpus, excesses = train.stop, [], [], []
    codes = np.searchsorted(head.classes_, y[train])  # of drawn labels some may be of no row
    for i in np.unique(np.linspace(0, options.Cs - 1, options.peer_Cs).round().astype(int)):
        C = head.Cs_[i]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = classifier(name, C)
            peer, peer_wall, peer_cpu = timed(lambda peer=peer: peer.fit(X[train], y[train]))
        walls.append(peer_wall)
        cpus.append(peer_cpu)
        reached = objective(X[train], codes, head.coefs_path_[i], head.intercepts_path_[i], C)
        excess = reached / objective(X[train], codes, peer.coef_, peer.intercept_, C) - 1
        excesses.append(excess)
        accuracies = f"{peer.score(X[test], y[test]):.3f}, ours "
        best = (X[test] @ head.coefs_path_[i].T + head.intercepts_path_[i]).argmax(1)
        accuracies += f"{np.mean(head.classes_[best] == y[test]):.3f}"
        print(
            f"| {n} | {options.d} | {options.classes} | {name}, {np.ravel(peer.n_iter_)[0]} iterations | {C:.3g} | "
            f"{peer_wall:.1f} | {peer_cpu:.1f} | {excess:.1e} | {accuracies} |",
            flush=True,
        )
    print(
        f"\nseconds per C, {name}'s (over {len(walls)} values) / ours (over all {options.Cs}): "
        f"{np.mean(walls) / (wall / options.Cs):.1f} on the wall, {np.mean(cpus) / (cpu / options.Cs):.1f} of CPU; "
        f"largest objective / scikit-learn's - 1: {max(excesses):.1e}"
    )


if __name__ == "__main__":
    main()
