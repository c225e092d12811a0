"""Features that are read once and forgotten, such as those of a network that trains: in memory, without the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Backbone, Dataset, IntArray, Partition
from probe.core.device import resolve_device
from probe.core.escaping import one_line
from probe.core.lazy import as_numbers
from probe.core.ragged import Ragged, RaggedRows
from probe.core.rows import check_rows
from probe.core.targets import stored
from probe.features import layout
from probe.features.extraction.contribute import Reader, dying_workers, extracted, read_batches
from probe.features.extraction.forward import Forward
from probe.features.extraction.guard import check_function_of_row
from probe.features.extraction.plan import Plan
from probe.features.extraction.session import unit, usual_workers
from probe.features.store import Features, check_request


class OnePass:
    """Stands where a `FeatureStore` stands: each row of a partition goes through the network once, for all its kinds.

    Args:
        rows: By partition, those that will be read; of the others nothing is computed, their features are 0.
        kinds: All that will be asked for.
        guarded: Whether it has been checked before that features are a function of the row.
    """

    def __init__(self, rows: Mapping[str, IntArray], kinds: Sequence[str], guarded: bool = False):
        self.rows, self.kinds, self.guarded = rows, tuple(kinds), guarded
        self._found: dict[str, Features] = {}

    def get(
        self,
        backbone: Backbone,
        dataset: Dataset,
        partition: str,
        kinds: Sequence[str],
        *,
        dtypes: Mapping[str, str | None] | None = None,
        batch_size: int = 256,
        n_workers: int | None = None,
        device: str = "auto",
        on_error: str = "raise",
        progress: bool = True,
    ) -> Features:
        """As `FeatureStore.get`."""
        if partition not in self._found:
            told = {kind: dtype for kind, dtype in (dtypes or {}).items() if dtype is not None}
            check_rows(backbone, dataset)
            check_request(backbone, dataset, partition, self.kinds, told, batch_size, n_workers, on_error)
            requested = layout.requested_dtypes({kind: told.get(kind) for kind in self.kinds})
            names = backbone.name, f"{dataset.name}/{partition}"
            plan = Plan(len(self.rows[partition]), batch_size, requested, *names)
            self._found[partition] = self._extract(
                backbone, dataset.partitions[partition], self.rows[partition], plan,
                n_workers=n_workers, device=resolve_device(device), on_error=on_error, progress=progress,
            )  # fmt: skip
        found = self._found[partition]
        return replace(found, arrays={kind: found.arrays[kind] for kind in kinds})

    def _extract(
        self,
        backbone: Backbone,
        whole: Partition,
        rows: IntArray,
        plan: Plan,
        *,
        n_workers: int | None,
        device: str,
        on_error: str,
        progress: bool,
    ) -> Features:
        import torch
        from tqdm.auto import tqdm

        started = time.perf_counter()
        backbone, some = backbone.to(device), _Some(whole, rows)
        if not self.guarded:
            check_function_of_row(backbone, some, plan, device)
        n_workers = usual_workers(backbone, some, plan, device) if n_workers is None else n_workers
        forward = Forward(backbone, some, plan, device)
        batches = read_batches(
            Reader(some, backbone, plan), range(plan.n_blocks), n_workers, pinned=device.startswith("cuda")
        )
        arrays: dict[str, NDArray[Any]] = {}
        tokens: dict[str, list[NDArray[Any]]] = {}
        lengths: dict[str, IntArray] = {}
        valid = np.ones(len(whole), dtype=np.bool_)
        bar = tqdm(total=len(rows), desc=one_line(f"{plan.backbone} {plan.dataset}"), unit=unit(some), leave=False,
                   disable=not progress)  # fmt: skip
        with bar, dying_workers(n_workers), torch.inference_mode():
            for one, found in extracted(forward, batches, on_error):
                places = rows[list(plan.rows(one.block))]
                valid[rows[list(one.failed)]] = False
                for kind, part in found.items():
                    if isinstance(part, Ragged):
                        tokens.setdefault(kind, []).append(part.values)
                        lengths.setdefault(kind, np.zeros(len(whole), np.int64))[places] = part.lengths
                        continue
                    if kind not in arrays:
                        arrays[kind] = np.zeros((len(whole), *part.shape[1:]), part.dtype)
                    arrays[kind][places] = part
                bar.update(len(places))
        seen = {kind: as_numbers(array) for kind, array in arrays.items()}
        for kind, parts in tokens.items():  # rows ascend, so that their tokens stand in order
            seen[kind] = RaggedRows(as_numbers(np.concatenate(parts)), np.append(0, np.cumsum(lengths[kind])))
        return Features(seen, stored(whole.labels), whole.ids, valid, "", time.perf_counter() - started)


class _Some:
    """Some rows of a partition, as an extraction reads them."""

    def __init__(self, whole: Partition, rows: IntArray):
        self.whole, self.rows = whole, rows
        self.labels = np.asarray(whole.labels)[rows]
        self.ids = [whole.ids[row] for row in rows]
        self.fingerprint = ""  # nothing is kept under it

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.whole[int(self.rows[row])]
