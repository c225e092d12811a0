"""Heads of parts of some rows; what the ranks of the tests of merging run."""

import numpy as np
import torch.distributed as dist

from probe.core.errors import InputError
from probe.heads.lda import LinearDiscriminant
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.merging import merge_ranks
from probe.heads.shared.moments import MomentsHead

HEADS = {
    "ncm": NearestClassMean(),
    "ncm cosine": NearestClassMean(metric="cosine"),
    "naive_bayes": NaiveBayes(),
    "naive_bayes per class": NaiveBayes(variance="per_class"),
    "ridge": RidgeProbe(alphas=[1.0]),
    "lda": LinearDiscriminant(shrinkage=0.1),
}
STREAMING = {name: head for name, head in HEADS.items() if isinstance(head, MomentsHead)}
CLASSES = np.arange(5)


def rows(n=400, width=16, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, n)
    return (3 + rng.normal(size=(n, width)) + rng.normal(size=(5, width))[y]).astype(np.float32), y


def fresh(name):
    head = HEADS[name]
    return type(head)(**head.get_params(deep=False))


def parts_of(name, n_parts):
    """Heads of uneven parts, the first of which lack classes."""
    X, y = rows()
    order = np.argsort(y, kind="stable")
    cuts = np.sort(np.random.default_rng(n_parts).choice(np.arange(1, 400), n_parts - 1, replace=False))
    return [fresh(name).partial_fit(X[part], y[part], classes=CLASSES) for part in np.split(order, cuts)]


def merge_as_rank(rank, n_ranks, port, name, odd, answers):
    """Sends the logits of the merged head, or the sentence that refuses it. Rank `odd` names a class more."""
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=n_ranks)
    part = parts_of(name, n_ranks)[rank]
    if rank == odd:
        part = fresh(name).partial_fit(*rows(), classes=np.arange(6))
    try:
        answers.send(merge_ranks(part).logits(rows(seed=1)[0]))
    except InputError as error:
        answers.send(str(error))
    dist.destroy_process_group()
