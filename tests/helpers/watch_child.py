"""What the ranks of the tests of `probe.Watch` run, and a network that all of these tests train."""

import random

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import probe

PIXELS = {"size": 8, "mean": [0.5], "std": [0.5]}


class Noisy(nn.Module):
    """Everything that a look from outside may disturb: dropout, statistics of batches, a part that is frozen."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(8, 6)
        self.frozen = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))

    def forward(self, x):
        return self.frozen(self.drop(self.out(self.norm(self.conv(x)).relu().mean((2, 3)))))


def network():
    """The same one each time, and all generators as they are at a start."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    made = Noisy()
    made.frozen.eval().requires_grad_(False)
    return made


def augmented(n):
    """Images that three generators have a part in."""
    shift = random.random() + float(np.random.rand())
    return torch.rand(n, 1, 8, 8) + shift


def train(model, n_steps, optimizer=None):
    """Some steps of training; the gradients of the last one stay."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(augmented(6)).square().mean().backward()
        optimizer.step()
    return optimizer


def states():
    """Of the generators, comparable."""
    return (
        random.getstate(),
        [np.asarray(part).tolist() for part in np.random.get_state()],
        torch.get_rng_state().tolist(),
    )


def watch_as_rank(rank, n_ranks, port, fails, answers):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=n_ranks)
    model = nn.parallel.DistributedDataParallel(network())
    n_read, epoch = 0, -1

    def transform(image):
        nonlocal n_read
        n_read += 1
        if fails and epoch >= 0 and image.getbbox():  # a blank one is asked for its channels
            raise ValueError("no such image")
        return torch.from_numpy(np.array(image.convert("L"), dtype=np.float32))[None] / 255

    try:
        watch = probe.Watch(
            (model, {"transform": transform, "size": 8}), "digits", ["ncm", "lda"], limit=60, every=2, quiet=True
        )
        optimizer, scores = None, []
        for epoch in range(3):
            optimizer = train(model, 2, optimizer)
            before = states()
            scores.append(watch(epoch))
            assert states() == before
        answers.send((scores, n_read, len(watch.history), [p.tolist() for p in model.parameters()]))
    except Exception as error:
        answers.send(f"{type(error).__name__}: {error}")
    dist.destroy_process_group()
