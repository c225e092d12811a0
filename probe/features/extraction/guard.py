"""Features are a function of the row: neither chance nor the rows of the same batch may move them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core import int8
from probe.core.base import Backbone, Partition
from probe.core.errors import InputError, ProbeError
from probe.core.ragged import Ragged
from probe.features.extraction.contribute import Reader
from probe.features.extraction.forward import Forward
from probe.features.extraction.plan import Plan

Rows = dict[str, list[NDArray[Any]]]
"""Kind -> features of each row."""
N_ROWS = 8
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 2e-2}
"""Largest relative difference that rounding may make, by the narrowest precision that features go through."""
AGAIN = (
    "differ between two extractions of the same rows (by {change:.2g} of their size in row {row}), they hang on chance "
    "or on a state of the network"
)
ALONE = (
    "differ between a batch and row {row} alone (by {change:.2g} of their size), they hang on the other rows of a batch"
)
REMEDY = (
    "features have to be a function of the row: switch off in its forward what draws or keeps anything (dropout, "
    "noise, statistics of the batch), of a masked autoencoder the masking (mask_ratio=0, patches kept in order), or "
    "choose another layer or backbone"
)


def check_function_of_row(backbone: Backbone, partition: Partition, plan: Plan, device: str) -> None:
    """Refuses features that are no function of the row: the first rows are extracted twice, and once alone.

    Rows that cannot be decoded are left out.

    Raises:
        InputError: With the reason, the kind, the row and how far it is off; or a row cannot be extracted alone.
    """
    import torch

    n_rows = min(N_ROWS, plan.block_rows, plan.n_rows)
    # Bytes are no numbers yet, and what they round away is no fault of the backbone.
    plan = replace(plan, kinds={kind: "float32" if dtype == int8.NAME else dtype for kind, dtype in plan.kinds.items()})
    together, alone = (replace(plan, n_rows=n_rows, block_rows=size) for size in (n_rows, 1))

    def extracted(plan: Plan, blocks: Iterable[int]) -> tuple[Rows, set[int]]:
        # Read anew each time: the transform may draw, too.
        reader, forward = Reader(partition, backbone, plan), Forward(backbone, partition, plan, device)
        batches = [reader[block] for block in blocks]
        given = [forward.collect(forward.launch(*batch)) for batch in batches]
        failed = {row for _, _, reasons in batches for row in reasons}
        return {kind: [row for arrays in given for row in _rows(arrays[kind])] for kind in given[0]}, failed

    with torch.inference_mode():
        once, failed = extracted(together, [0])
        rows = [row for row in range(n_rows) if row not in failed]
        if not rows:
            return
        again, _ = extracted(together, [0])
        once, again = ({kind: [found[row] for row in rows] for kind, found in of.items()} for of in (once, again))
        _compare(backbone, once, again, rows, AGAIN)
        try:
            singly, _ = extracted(alone, rows)
        except ProbeError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"backbone {backbone.name} extracts {n_rows} rows together and not one alone ({text}): {REMEDY}"
            ) from error
    _compare(backbone, once, singly, rows, ALONE)


def _rows(found: NDArray[Any] | Ragged) -> list[NDArray[Any]]:
    """The features of each row, of rows that differ in length too."""
    return np.split(found.values, np.cumsum(found.lengths)[:-1]) if isinstance(found, Ragged) else list(found)


def _compare(backbone: Backbone, one: Rows, other: Rows, rows: Sequence[int], reason: str) -> None:
    for kind, given in one.items():
        precisions = (given[0].dtype.name, getattr(backbone, "precision", "float32"))
        tolerance = max(TOLERANCES.get(precision, 0.0) for precision in precisions)
        changes = _changes(given, other[kind])
        worst = int(changes.argmax())
        if changes[worst] > tolerance:
            what = reason.format(change=changes[worst], row=rows[worst])
            raise InputError(f"{kind} features of backbone {backbone.name} {what}: {REMEDY}")


def _changes(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """(n,) distance of two feature vectors of each row, as a share of the row's length or, if more, of a usual one.

    Infinite where a row has another number of tokens.
    """
    lengths = np.array([np.linalg.norm(row.ravel().astype(np.float64)) for row in one])
    pairs = list(zip(one, other, strict=True))
    distances = np.array(
        [np.linalg.norm((a.astype(np.float64) - b).ravel()) if a.shape == b.shape else np.inf for a, b in pairs]
    )
    sizes = np.maximum(lengths, lengths.mean())
    return distances / np.where(sizes > 0, sizes, 1.0)
