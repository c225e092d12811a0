"""Optimizers of torch without their fused kernels, which take numbers in the order in which they lie in memory."""

from functools import partial
from typing import Any

import torch


def _plain(real: Any, *given: Any, fused: bool = False, **options: Any) -> Any:
    return real(*given, **options)


def without_fused_steps(monkeypatch: Any) -> None:
    """Has every optimizer that is made from here on step number by number."""
    for name in ("AdamW", "SGD"):
        monkeypatch.setattr(torch.optim, name, partial(_plain, getattr(torch.optim, name)))
