"""Times the whole path of C of `LinearProbe` on a GPU, at the size of ImageNet, against L-BFGS one C at a time there.

    python benchmarks/gpu_linear_probe.py [--n 1281167] [--d 768] [--classes 1000] [--Cs 45] [--gigabytes 24]

Rows are Gaussian classes with a power-law spectrum, in a memmap of float16 as from the store. The peer is
`torch.optim.LBFGS` on the mean loss from zero, its rows resident in float32, at `--peer-Cs` values spread evenly over
the path and stopped after `--peer-iterations`; the ratio is one of seconds per C, and the objectives say which came
further. `--gigabytes` fills the GPU until that much is free.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from probe.heads.linear import LinearProbe

CHUNK = 2**17


def power_law(path: Path, n: int, d: int, n_classes: int, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes in a file, variances 1, 1/2, 1/3, ... along random axes; some labels drawn at random."""
    random = torch.Generator(device="cuda").manual_seed(0)
    options = {"generator": random, "device": "cuda"}
    scale = torch.arange(1, d + 1, device="cuda") ** -0.5
    axes = torch.linalg.qr(torch.randn(d, d, **options))[0] * (d / scale.square().sum()).sqrt()
    means = 0.15 * torch.randn(n_classes, d, **options)
    labels = torch.randint(n_classes, (n,), **options)
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, d))
    for start in range(0, n, CHUNK):
        own = labels[start : start + CHUNK]
        rows = (torch.randn(len(own), d, **options) + means[own]) * scale @ axes.T
        X[start : start + CHUNK] = rows.half().cpu().numpy()
    drawn = torch.rand(n, **options) < noise
    labels = torch.where(drawn, torch.randint(n_classes, (n,), **options), labels)
    X.flush()
    return np.load(path, mmap_mode="r"), labels.cpu().numpy()


def objective(X: Tensor, y: Tensor, theta: Tensor, C: float) -> float:
    """C * sum of cross-entropies + 1/2 ||W||^2 of theta (K, D + 1), in float64."""
    theta = theta.double()
    total = torch.zeros((), dtype=torch.float64, device=X.device)
    for rows, labels in zip(X.split(CHUNK), y.split(CHUNK), strict=True):
        logits = torch.addmm(theta[:, -1], rows.double(), theta[:, :-1].T)
        total += cross_entropy(logits, labels, reduction="sum")
    return float(C * total + 0.5 * theta[:, :-1].square().sum())


def lbfgs(X: Tensor, y: Tensor, n_classes: int, C: float, iterations: int) -> tuple[Tensor, int]:
    """theta (K, D + 1) and how many iterations it took."""
    theta = torch.zeros(n_classes, X.shape[1] + 1, device="cuda", requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [theta], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-7
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = theta[:, :-1].square().sum() / (2 * C * len(X))
        total.backward()
        for rows, labels in zip(X.split(CHUNK), y.split(CHUNK), strict=True):
            logits = torch.addmm(theta[:, -1], rows, theta[:, :-1].T)
            part = cross_entropy(logits, labels, reduction="sum") / len(X)
            part.backward()
            total = total.detach() + part.detach()
        return total

    optimizer.step(loss)
    return theta.detach(), optimizer.state[theta]["n_iter"]


def leave_free(gigabytes: float | None) -> list[Tensor]:
    """Fills the GPU until so much is free; for as long as what it returns is kept."""
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    filler = [torch.empty(int(free - gigabytes * 1e9), dtype=torch.uint8, device="cuda")] if gigabytes else []
    free = torch.cuda.mem_get_info()[0]
    print(f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free; torch {torch.__version__}\n")
    return filler


def whole_path(rows: dict[str, tuple[np.ndarray, np.ndarray]], n_Cs: int) -> tuple[LinearProbe, float, float]:
    """The fitted head, seconds, and gigabytes on the GPU at most."""
    torch.cuda.reset_peak_memory_stats()
    before, started = torch.cuda.memory_allocated(), time.perf_counter()
    head = LinearProbe(Cs=n_Cs, refit=False, device="cuda").fit(*rows["train"], validation=rows["validation"])
    seconds = time.perf_counter() - started
    return head, seconds, (torch.cuda.max_memory_allocated() - before) / 1e9


def accuracy(X: Tensor, y: Tensor, theta: Tensor) -> float:
    return ((X @ theta[:, :-1].T.float() + theta[:, -1].float()).argmax(1) == y).double().mean().item()


def measure(options: argparse.Namespace, path: Path) -> None:
    X, y = power_law(path, options.n + 2 * options.n_test, options.d, options.classes)
    places = np.split(np.arange(len(y)), [options.n, options.n + options.n_test])
    rows = {
        name: (X[part[0] : part[-1] + 1], y[part])
        for name, part in zip(("train", "validation", "test"), places, strict=True)
    }
    filler = leave_free(options.gigabytes)
    head, seconds, peak = whole_path(rows, options.Cs)
    filler.clear()
    sizes = f"| {options.n} | {options.d} | {options.classes} |"
    print("| n | d | K | solver | C | seconds | objective / the peer's - 1 | accuracy |\n" + "|---" * 8 + "|")
    print(
        f"{sizes} LinearProbe, {peak:.1f} GB | all {options.Cs} | {seconds:.1f} | | "
        f"{head.score(*rows['test']):.4f} (C = {head.C_:.3g}) |",
        flush=True,
    )
    on_gpu = {
        name: (torch.from_numpy(np.array(X)).cuda().float(), torch.from_numpy(y).cuda())
        for name, (X, y) in rows.items()
    }
    walls = []
    for i in np.unique(np.linspace(0, options.Cs - 1, options.peer_Cs).round().astype(int)):
        C = float(head.Cs_[i])
        started = time.perf_counter()
        theirs, n_iter = lbfgs(*on_gpu["train"], options.classes, C, options.peer_iterations)
        torch.cuda.synchronize()
        walls.append(time.perf_counter() - started)
        ours = torch.from_numpy(np.column_stack([head.coefs_path_[i], head.intercepts_path_[i]])).cuda()
        excess = objective(*on_gpu["train"], ours, C) / objective(*on_gpu["train"], theirs, C) - 1
        accuracies = [accuracy(*on_gpu["test"], theta) for theta in (theirs, ours)]
        print(
            f"{sizes} LBFGS, {n_iter} iterations | {C:.3g} | {walls[-1]:.1f} | {excess:.1e} | {accuracies[0]:.4f}, "
            f"ours {accuracies[1]:.4f} |",
            flush=True,
        )
    if walls:
        ratio = np.mean(walls) / (seconds / options.Cs)
        print(f"\nseconds per C, LBFGS (over {len(walls)} values) / ours (over all {options.Cs}): {ratio:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"n": 1_281_167, "d": 768, "classes": 1000, "Cs": 45, "peer-Cs": 3, "peer-iterations": 100}
    for name, default in {**defaults, "n-test": 50_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--gigabytes", type=float)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder) / "rows.npy")


if __name__ == "__main__":
    main()
