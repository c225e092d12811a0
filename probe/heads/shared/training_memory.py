"""Whether the memory is there that training will take: said before it begins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probe.core.device import free_bytes
from probe.core.errors import InputError
from probe.heads.linalg.recycled import KEPT, KEPT_BYTES
from probe.heads.shared.module_solver import Batch

WEIGHTS = 6
"""Times that weights lie in memory: themselves, gradients, two moments of AdamW, the best epoch, one on its way."""
VECTORS = 16
"""Coefficients that Newton steps have in work at once."""
OF_A_SOLUTION = 3
"""Of each penalty: the solution, its gradient, the coefficients for rows as given."""
SPARE = 2
"""What a step takes beside the tensors that it keeps for its gradients, as a factor."""


def available_bytes(device: str) -> int:
    """Bytes that a device, or this machine, can still give; without limit where that cannot be known."""
    if device.startswith("cuda"):
        return free_bytes(device)
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return sys.maxsize


def kept_bytes(module: nn.Module, batch: Batch) -> int:
    """Bytes of the tensors that a forward pass keeps for its gradients."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = module(batch)  # held until all is noted, so that no two tensors have the same address
    del logits
    return sum(kept.values())


def check_path_memory(n_rows: int, width: int, n_classes: int, n_penalties: int, itemsize: int, device: str) -> None:
    """Refuses a path of penalties whose coefficients alone would not fit, before the first pass over the rows.

    Args:
        n_rows, width: Of the features; coefficients lie in the span of the rows.
        n_classes: Rows of coefficients.
        n_penalties: Solutions that are kept.
        itemsize: Bytes of a number.
        device: That computes.

    Raises:
        InputError: With the memory needed and the number of penalties that fits.
    """
    one, available = itemsize * n_classes * (min(n_rows, width) + 1), available_bytes(device)
    working, each = one * VECTORS + min(4 * KEPT_BYTES, 4 * KEPT * one), one * OF_A_SOLUTION
    if working + n_penalties * each <= available:
        return
    fitting = (available - working) // each
    raise InputError(
        f"{n_penalties} values of C for {n_classes:,} classes of {width:,} features take "
        f"{(working + n_penalties * each) / 1e9:.3g} GB for coefficients and {device} has {available / 1e9:.3g} GB "
        "free: " + (f"set head.Cs to at most {fitting} values" if fitting > 0 else "choose head=ncm or fewer features")
    )


def check_training_memory(module: nn.Module, one_row: Batch, n_candidates: int, batch_size: int, device: str) -> None:
    """Refuses what would not fit, with what would.

    Args:
        module: Untrained, on the CPU; its buffers may change.
        one_row: A batch of one row.
        n_candidates: That are trained side by side.
        batch_size: Rows per step.
        device: That computes.

    Raises:
        InputError: With the memory needed and the batch size, or the number of candidates, that fits.
    """
    two_rows: dict[str, Any] = {name: torch.cat([value, value]) for name, value in one_row.items()}
    per_row = SPARE * (kept_bytes(module, two_rows) - kept_bytes(module, one_row))
    weights = WEIGHTS * sum(value.nbytes for value in module.state_dict().values())
    available = available_bytes(device)
    needed = n_candidates * (weights + batch_size * per_row)
    if needed <= available:
        return
    remedies = []
    if (rows := (available // n_candidates - weights) // max(1, per_row)) > 0:
        remedies.append(f"set batch_size to {rows} or less")
    if (fitting := available // (weights + batch_size * per_row)) > 0:
        remedies.append(f"search at most {fitting} of them (learning_rates x weight_decays)")
    raise InputError(
        f"training {n_candidates} candidates side by side on batches of {batch_size} rows takes {needed / 1e9:.1f} GB "
        f"and {device} has {available / 1e9:.1f} GB free: "
        + (" or ".join(remedies) or "take a smaller pooling, fewer candidates and a smaller batch_size")
    )
