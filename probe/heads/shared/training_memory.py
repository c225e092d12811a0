"""Whether the memory is there that training will take: said before it begins."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from probe.core.arrays import CHUNK_BYTES
from probe.core.errors import InputError
from probe.core.memory import available_bytes
from probe.heads.linalg.recycled import KEPT, KEPT_BYTES
from probe.heads.shared.forecast import Forecast, Shapes
from probe.heads.shared.module_solver import Batch

WEIGHTS = 6
"""Times that weights lie in memory: themselves, gradients, two moments of AdamW, the best epoch, one on its way."""
VECTORS = 16
"""Coefficients that Newton steps have in work at once."""
OF_A_SOLUTION = 3
"""Of each penalty: the solution, which may be in float64, and the coefficients for rows as given."""
PASSES_OF_A_STEP = 3
"""Forward, and backward to activations and to weights."""
IN_A_STEP = 2
"""Times that a step takes what it is refused for at the least: gradients of as much, and room of the libraries."""
SPARE = 2
"""What a step takes beside the tensors that it keeps for its gradients, as a factor."""


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
    (working, each), available = _path_bytes(min(n_rows, width), n_classes, itemsize), available_bytes(device)
    if working + n_penalties * each <= available:
        return
    fitting = (available - working) // each
    raise InputError(
        f"{n_penalties} values of C for {n_classes:,} classes of {width:,} features take "
        f"{(working + n_penalties * each) / 1e9:.3g} GB for coefficients and {device} has {available / 1e9:.3g} GB "
        "free: " + (f"set head.Cs to at most {fitting} values" if fitting > 0 else "choose head=ncm or fewer features")
    )


def path_bytes(rank: int, n_classes: int, n_penalties: int, itemsize: int) -> int:
    """Bytes that the coefficients of a path take while it is solved."""
    working, each = _path_bytes(rank, n_classes, itemsize)
    return working + n_penalties * each


def _path_bytes(rank: int, n_classes: int, itemsize: int) -> tuple[int, int]:
    """Those that are in work, and those of each solution."""
    one = itemsize * n_classes * (rank + 1)
    return one * VECTORS + min(4 * KEPT_BYTES, 4 * KEPT * one), one * OF_A_SOLUTION


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
    (weights, per_row), available = training_bytes(module, one_row), available_bytes(device)
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


def training_bytes(module: nn.Module, one_row: Batch) -> tuple[int, int]:
    """Bytes that training one candidate takes: those of its weights, and those of each row of a batch."""
    two_rows: dict[str, Any] = {name: torch.cat([value, value]) for name, value in one_row.items()}
    per_row = SPARE * (kept_bytes(module, two_rows) - kept_bytes(module, one_row))
    return WEIGHTS * sum(value.nbytes for value in module.state_dict().values()), per_row


def of_training(
    module: nn.Module,
    shapes: Shapes,
    n_rows: int,
    n_candidates: int,
    batch_size: int,
    n_epochs: int,
    of_parts: int = 0,
) -> Forecast:
    """Of a head that trains a module by mini-batches.

    Args:
        module: Untrained, on the CPU; its buffers may change.
        shapes: Of one row of each kind that it reads.
        n_rows: That train and validate.
        n_candidates: That have weights at once.
        batch_size: Rows in work at once, of all candidates that share a step.
        n_epochs: Of all candidates and the refit together.
        of_parts: Bytes that parts of batches hold until all of them are done.
    """
    from torch.utils.flop_counter import FlopCounterMode

    one_row = {kind: torch.zeros(1, *shape) for kind, shape in shapes.items()}
    weights, per_row = training_bytes(module, one_row)
    nothing = {kind: value.to("meta") for kind, value in one_row.items()}  # where no product is NumPy's, uncounted
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(module).to("meta")(nothing)
    row_bytes = sum(value.nbytes for value in one_row.values())
    at_once = min(n_rows // 10, CHUNK_BYTES // row_bytes) if n_candidates > 1 else 0
    products = counter.get_total_flops() / 2
    passes = PASSES_OF_A_STEP * n_epochs * n_rows
    # Both, since threads keep what they freed: candidates are judged by another one than those that train.
    working = IN_A_STEP * batch_size * per_row + at_once * (per_row // SPARE + row_bytes)
    return Forecast(n_candidates * weights + working + of_parts, passes * products)
