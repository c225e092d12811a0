"""Heads fitted on parts of the rows, on any number of machines, become the head of all rows.

Each part is fitted with `partial_fit(X, y, classes=…)`, which keeps class statistics; these add up, whatever the parts:

    save_part(head, "parts/3")                                         # on each machine, its own rows
    merge_heads([load_part(folder) for folder in folders])             # anywhere, later
    merge_ranks(head)                                                  # or at once, in a torch.distributed job

The result equals `fit` on all rows to 1e-12 where both multiply in float64, and to the rounding of `fit` where that
multiplies in float32 (see `ClassMoments`; 2e-6 of the largest second moment for 80,000 rows of 384 numbers). Heads
that stream and choose (`ridge` with several penalties) choose as `partial_fit` does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.source import path_of, source_digest
from probe.core.writing import write_file
from probe.heads.shared.head import Head
from probe.heads.shared.moments import ClassMoments, MomentsHead

ARRAYS = ("counts", "sums", "squares", "shift", "low", "high")
HEAD, SUMS = "head.safetensors", "sums.safetensors"

Streaming = TypeVar("Streaming", bound=MomentsHead)


def merge_tree(parts: Sequence[ClassMoments]) -> ClassMoments:
    """The moments of all parts, merged in pairs, then pairs of pairs: rounding grows with the depth of the tree."""
    level = [copy.deepcopy(part) for part in parts]
    while len(level) > 1:
        level = [a.merge(b) for a, b in zip(level[::2], level[1::2], strict=False)] + level[len(level) & ~1 :]
    return level[0]


def merge_heads(heads: Sequence[Streaming]) -> Streaming:
    """A head of all rows from heads of their parts; these stay as they are.

    Raises:
        InputError: heads that differ in class, parameters, classes or features, or that hold no sums.
    """
    if not heads:
        raise InputError("there is no head to merge: give those of the parts")
    for i, head in enumerate(heads):
        _check_sums(head, f"head {i}")
        for fact, value in _facts(head).items():
            if value != _facts(heads[0])[fact]:
                raise InputError(
                    f"{fact} is {value} in head {i} and {_facts(heads[0])[fact]} in head 0: fit all parts with one "
                    "head's parameters, on features of one backbone, and with all classes named in partial_fit"
                )
    return copy.copy(heads[0])._finish(merge_tree([head._moments for head in heads]))


def save_part(head: MomentsHead, folder: str | Path) -> None:
    """Writes a head with its sums, which `Head.save` leaves out for their size: (D, D) for ridge and lda."""
    from safetensors.numpy import save

    _check_sums(head, "this head")
    Path(folder).mkdir(parents=True, exist_ok=True)
    head.save(Path(folder) / HEAD)
    moments = head._moments
    settings = {name: str(getattr(moments, name)) for name in ("second", "extremes", "unit_rows", "rounding")}
    sums = {name: getattr(moments, name) for name in ARRAYS}
    write_file(Path(folder) / SUMS, save(sums, metadata=settings))


def load_part(folder: str | Path, kind: type[Head] = Head) -> MomentsHead:
    """Reads what `save_part` wrote: a head that predicts, merges, and takes more rows in `partial_fit`.

    Args:
        folder: Where it stands.
        kind: The class of a head from outside this package, which no file may name.
    """
    from safetensors import safe_open

    for name in (HEAD, SUMS):
        if not (Path(folder) / name).exists():
            raise InputError(f"{Path(folder) / name} is missing: give a folder that save_part wrote")
    head = kind.load(Path(folder) / HEAD)
    if not isinstance(head, MomentsHead):
        raise InputError(f"{folder} holds a {type(head).__name__}, which does not stream: merge heads that do")
    with safe_open(Path(folder) / SUMS, framework="numpy") as file:
        settings, arrays = file.metadata(), {name: file.get_tensor(name) for name in ARRAYS}
    head._moments = _moments_of(arrays, settings)
    return head


def merge_ranks(head: Streaming, group: Any = None) -> Streaming:
    """`merge_heads` over the ranks of a torch.distributed group; every rank gets the same bits.

    Sums travel up a tree, so that no rank ever holds those of more than two.

    Raises:
        InputError: in all ranks, where their heads differ as in `merge_heads`.
    """
    import torch
    import torch.distributed as dist

    fitted = hasattr(head, "_moments")
    own = int(digest(_facts(head)), 16) % 2**63 if fitted else -1
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    every = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, torch.tensor([own], device=device), group=group)
    facts = [int(one) for one in every]
    if len(set(facts)) > 1 or not fitted:
        odd = next((i for i, fact in enumerate(facts) if fact == -1 or fact != facts[0]), 0)
        raise InputError(
            f"the head of rank {odd} has other parameters, classes or features than that of rank 0, or no rows: fit "
            "each rank with partial_fit on rows of its own, with the same head and all classes named"
        )
    return copy.copy(head)._finish(_reduce(head._moments, device, group))


def _reduce(moments: ClassMoments, device: str, group: Any) -> ClassMoments:
    """The moments of all ranks, in every rank."""
    import torch
    import torch.distributed as dist

    rank, n_ranks, merged = dist.get_rank(group), dist.get_world_size(group), copy.deepcopy(moments)

    def tensors(of: ClassMoments) -> list[torch.Tensor]:
        arrays = [getattr(of, name) for name in ARRAYS]
        return [torch.as_tensor(array, device=device) for array in (*arrays, np.array([of.rounding]))]

    def globally(member: int) -> int:
        return member if group is None else dist.get_global_rank(group, member)

    step = 1
    while step < n_ranks:
        if rank % (2 * step) == step:
            for tensor in tensors(merged):
                dist.send(tensor, globally(rank - step), group=group)
            break
        if rank + step < n_ranks:
            received = [torch.empty_like(tensor) for tensor in tensors(merged)]
            for tensor in received:
                dist.recv(tensor, globally(rank + step), group=group)
            merged.merge(_with_arrays(moments, received))
        step *= 2
    result = tensors(merged)
    for tensor in result:
        dist.broadcast(tensor, globally(0), group=group)
    return _with_arrays(moments, result)


def _facts(head: MomentsHead) -> dict[str, Any]:
    """What heads of parts must have in common, as text."""
    parameters = {name: repr(value) for name, value in head.get_params(deep=False).items() if name != "device"}
    return {
        "the class": path_of(type(head)),
        "the code": source_digest(type(head)),
        **{f"parameter {name}": value for name, value in sorted(parameters.items())},
        "the number of features": head.n_features_in_,
        "the list of classes": head.classes_.tolist(),
    }


def _check_sums(head: MomentsHead, name: str) -> None:
    if not hasattr(head, "_moments"):
        raise InputError(f"{name}, a {type(head).__name__}, holds no sums: fit it, or read it with load_part")


def _with_arrays(like: ClassMoments, tensors: Sequence[Any]) -> ClassMoments:
    """Moments that collect the same, with the arrays and the rounding that were received."""
    *arrays, rounding = (tensor.cpu().numpy() for tensor in tensors)
    found = copy.copy(like)
    vars(found).update(zip(ARRAYS, arrays, strict=True), rounding=float(rounding[0]))
    return found


def _moments_of(arrays: Mapping[str, Any], settings: Mapping[str, str]) -> ClassMoments:
    moments = ClassMoments(
        *arrays["sums"].shape,
        second=settings["second"],  # type: ignore[arg-type]
        extremes=settings["extremes"] == "True",
        unit_rows=settings["unit_rows"] == "True",
    )
    vars(moments).update(arrays, rounding=float(settings["rounding"]))
    return moments
