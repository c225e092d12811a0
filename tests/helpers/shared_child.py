"""What the ranks of the tests of the shared linear probe run."""

import numpy as np
import torch
import torch.distributed as dist

from probe.core.errors import InputError
from probe.heads.shared.linear_ranks import SharedLinearProbe


def rows(n=600, width=12, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    centres = np.random.default_rng(9).normal(size=(n_classes, width))
    return rng.normal(size=(n, width)) * np.geomspace(0.3, 3, width) + 0.7 * centres[y] + 2, y


def part(X, y, rank, n_ranks):
    """Uneven parts in the order of the labels, so that most ranks lack classes."""
    order = np.argsort(y, kind="stable")
    cuts = (len(y) * np.linspace(0, 1, n_ranks + 1)[1:-1] ** 2).astype(int)
    mine = np.split(order, cuts)[rank]
    return X[mine], y[mine]


def fit_as_rank(rank, n_ranks, port, options, validation, answers):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=n_ranks)
    held = part(*rows(200, seed=1), rank, n_ranks) if validation else None
    try:
        head = SharedLinearProbe(device="cpu", **options).fit(*part(*rows(), rank, n_ranks), validation=held)
    except InputError as error:
        answers.send(str(error))
    else:
        answers.send(
            {name: getattr(head, name, None) for name in ("coefs_path_", "coef_", "intercept_", "C_", "scores_")}
        )
    dist.destroy_process_group()
