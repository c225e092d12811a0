"""Rows of tokens, and a head of them that trains in a second."""

import numpy as np
import torch

from probe.heads.moment_probing import MomentProbing


def random_batch(n=5, n_tokens=10, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "pooled": rng.standard_normal((n, width)).astype(np.float32),
        "tokens": rng.standard_normal((n, n_tokens, width)).astype(np.float32),
    }


def tensors(batch):
    return {kind: torch.from_numpy(value) for kind, value in batch.items()}


def small(**parameters):
    """A head that trains in a second."""
    defaults = {"hidden_width": 32, "n_groups": 2, "epochs": (4,), "learning_rates": (3e-3,), "warmup_epochs": 1}
    return MomentProbing(**(defaults | parameters))


def equal_means(n, n_tokens=25, width=8, seed=0):
    """Two classes of equal token means; in one of them the two halves of the channels are correlated."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    tokens = rng.standard_normal((n, n_tokens, width))
    half = width // 2
    mixed = (tokens[..., :half] + tokens[..., half:]) / np.sqrt(2)
    tokens[..., half:] = np.where(y[:, None, None] == 1, mixed, tokens[..., half:])
    tokens = tokens.astype(np.float32)
    return {"pooled": tokens.mean(axis=1), "tokens": tokens}, y
