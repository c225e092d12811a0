"""The feature store: features of a backbone on the rows of a partition, extracted once and kept on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Backbone, Dataset, IntArray, digest
from probe.core.errors import InputError, ProbeError, StoreError
from probe.core.files import cache_root, nearest_folder
from probe.core.kinds import dtypes_of
from probe.core.rows import check_rows
from probe.core.targets import stored
from probe.features import layout
from probe.features.entry import Pass, read_passes
from probe.features.extraction.finish import whoami
from probe.features.extraction.plan import Plan
from probe.features.extraction.session import Extraction
from probe.features.extraction.work import Work, works

PATIENCE = 10
"""How often in a row an extraction may vanish and be there again, as beside a prune, before it counts as damaged."""


@dataclass(frozen=True)
class Features:
    """Features of all rows of a partition.

    Attributes:
        arrays: Kind -> read-only memmap of N rows, in the order of the partition; of int8 what unpacks one, and where
            rows differ in length what pads some of them when they are asked for (`probe.core.ragged`). Blocks are
            verified against their checksums before their first use; a damaged one raises `StoreError`. Rows that are
            not valid hold NaN, or no token.
        labels: (N,) class codes.
        ids: N names of the rows.
        valid: (N,) False where a row could not be decoded (`on_error="skip"`).
        digest: Names exactly these features.
        seconds: Spent extracting in this call; 0.0 when all was there.
    """

    arrays: Mapping[str, NDArray[Any]]
    labels: IntArray
    ids: Sequence[str]
    valid: NDArray[np.bool_]
    digest: str
    seconds: float


class FeatureStore:
    """Features on disk, by content: whoever asks for the same features gets the same files.

    Any number of processes may ask at once; they share the extraction. An interrupted extraction goes on where it
    stopped. Interrupted, shared and plain extractions with one `batch_size` give the same bits on one machine with one
    number of threads. Another `batch_size` may change the last bits, as in any use of a backbone; it names no other
    features: what is there is used, and an extraction under way keeps the batch size that it began with.

    Args:
        root: The cache folder; None: `$PROBE_CACHE`, else the platform's cache folder.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root).expanduser() if root is not None else cache_root()

    def check_place(self) -> None:
        """Refuses a folder that could not be made, and makes none; one that can only be read may hold what is asked.

        Raises:
            StoreError: a file stands in its place, or it is not there and cannot be made.
        """
        there = nearest_folder(self.root, "cache=<folder>")
        if there != self.root.absolute() and not os.access(there, os.W_OK | os.X_OK):
            raise StoreError(
                f"{there} cannot be written to, and the cache is to stand below it: set cache=<folder> or PROBE_CACHE"
            )

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
        """The features of a partition, after extracting what is not there yet.

        Args:
            kinds: What the caller reads; all that is missing is extracted in one pass.
            dtypes: Kind -> stored dtype, `float16` or `float32`, of tokens `int8` too, with a scale for each token. By
                default, or told None, `pooled` and other arrays of two axes are stored in float32, `tokens`, `map` and
                other larger arrays in float16.
            n_workers: Processes that decode rows; 0 decodes in this one. None: for images on a GPU as many as this
                process has cores and shared memory for, else 0.
            on_error: `raise`, or `skip` to leave out rows that cannot be decoded and mark them in `valid`.

        Raises:
            InputError: a row that cannot be decoded, features that are not finite; named by row and backbone.
            StoreError: a cache that cannot be written, or that holds damaged files.
        """
        told = {kind: dtype for kind, dtype in (dtypes or {}).items() if dtype is not None}
        check_rows(backbone, dataset)
        check_request(backbone, dataset, partition, kinds, told, batch_size, n_workers, on_error)
        requested = layout.requested_dtypes({kind: told.get(kind) for kind in kinds})
        identity = layout.entry_identity(backbone, dataset, partition)
        entry = self.root / "features" / layout.entry_digest(identity)
        names = backbone.name, f"{dataset.name}/{partition}"
        started, extraction, n_odd = time.perf_counter(), None, 0
        while True:
            found = find(read_passes(entry), requested)
            missing = {kind: dtype for kind, dtype in requested.items() if kind not in found}
            if missing:
                extraction = extraction or Extraction(
                    backbone, dataset, partition, identity, device, n_workers, on_error, progress
                )
                plan = Plan(len(dataset.partitions[partition]), batch_size, missing, *names)
                odd = self._extract(entry, extraction, plan)
                n_odd = n_odd + 1 if odd else 0
                if odd and n_odd > PATIENCE:
                    raise layout.write_error(odd, self.root) from odd
                continue
            seconds = time.perf_counter() - started if extraction else 0.0
            try:
                return read_features(found, dataset, partition, identity, on_error, seconds)
            except StoreError:
                if all(layout.listed(one.folder) for one in found.values()):
                    raise
                # Pruned between two looks: look again.

    def _guard(self, entry: Path, extraction: Extraction, plan: Plan) -> None:
        """Refuses features that are no function of the row; whoever has finished a block of them has checked."""
        if not any(begun.done() for begun in works(entry)):
            extraction.check(plan)

    def _extract(self, entry: Path, extraction: Extraction, plan: Plan) -> OSError | None:
        """Takes part in one extraction until it is finished; comes back early where its folder vanished.

        Returns:
            What happened, where something vanished and a folder of that name is there: it may be another one already,
            or it may lack a part for good.
        """
        self._guard(entry, extraction, plan)
        work = None
        try:
            work = join_or_begin(entry, plan)
            extraction.run(work)
        except ProbeError:
            raise
        except OSError as error:
            if not layout.gone(error):
                raise layout.write_error(error, self.root) from error
            # Others finished, or threw away, what this process was looking at: look again.
            return error if work is None or work.there() else None
        return None


def check_request(
    backbone: Backbone,
    dataset: Dataset,
    partition: str,
    kinds: Sequence[str],
    dtypes: Mapping[str, str],
    batch_size: int,
    n_workers: int | None,
    on_error: str,
) -> None:
    """Refuses what cannot be extracted, all that is wrong in one sentence each."""
    wrong = []
    if partition not in dataset.partitions:
        wrong.append(f"dataset {dataset.name} has no partition {partition!r}: choose from {list(dataset.partitions)}")
    elif len(dataset.partitions[partition]) == 0:
        wrong.append(f"partition {partition} of dataset {dataset.name} has no rows: expected at least 1")
    unknown = [kind for kind in kinds if kind not in backbone.kinds]
    if unknown or not kinds or isinstance(kinds, str):
        wrong.append(f"backbone {backbone.name} gives {list(backbone.kinds)}, asked for {unknown or kinds!r}")
    wrong += wrong_settings(dtypes, batch_size, n_workers, on_error)
    if wrong:
        raise InputError("; ".join(wrong))


def wrong_settings(
    dtypes: Mapping[str, str | None] | None = None,
    batch_size: int = 256,
    n_workers: int | None = None,
    on_error: str = "raise",
    **_: Any,
) -> list[str]:
    """What can be said against settings of `FeatureStore.get` before there is anything to extract."""
    wrong = []
    for kind, dtype in (dtypes or {}).items():
        if dtype is not None and dtype not in (known := dtypes_of(kind)):
            wrong.append(f"features.dtypes.{kind} is {dtype!r}: choose from {list(known)}")
    if batch_size < 1:
        wrong.append(f"features.batch_size is {batch_size}: give 1 or more")
    if n_workers is not None and n_workers < 0:
        wrong.append(f"features.n_workers is {n_workers}: give 0 or more")
    if on_error not in ("raise", "skip"):
        wrong.append(f"features.on_error is {on_error!r}: choose raise or skip")
    return wrong


def find(passes: Sequence[Pass], requested: Mapping[str, str]) -> dict[str, Pass]:
    """Kind -> the finished pass that holds it in the dtype asked for, for the kinds that are there."""
    found = {}
    for kind, dtype in requested.items():
        for candidate in passes:
            facts = candidate.manifest["kinds"].get(kind)
            if facts and facts["dtype"] == layout.stored_dtype(dtype, len(facts["shape"])):
                found[kind] = candidate
                break
    return found


def join_or_begin(entry: Path, plan: Plan) -> Work:
    """The extraction to take part in: one under way that gives some of the kinds, an interrupted one, or a new one.

    An interrupted extraction of more than these kinds is left alone. One that was interrupted before its first block
    was finished starts anew, so that a batch size that did not fit can be changed.
    """
    entry.mkdir(parents=True, exist_ok=True)
    candidates = []
    for work in works(entry):
        shared = {kind for kind, dtype in plan.kinds.items() if work.plan.kinds.get(kind) == dtype}
        if not shared:
            continue
        live = bool(work.live_writers())
        other_batches = not work.done() and work.plan.block_rows != plan.block_rows
        if not live and (other_batches or not work.there()):
            work.discard()
        elif live or shared == set(work.plan.kinds):
            candidates.append((len(shared), work))
    if candidates:
        return max(candidates, key=lambda c: c[0])[1]
    return Work.open_or_create(entry, plan)


def read_features(
    found: Mapping[str, Pass], dataset: Dataset, partition: str, identity: Any, on_error: str, seconds: float
) -> Features:
    """Opens what was found, or refuses it for its skipped rows."""
    rows = dataset.partitions[partition]
    skipped = {int(row): why for p in found.values() for row, why in p.manifest["skipped"].items()}
    if skipped and on_error == "raise":
        names = ", ".join(f"{row} ({name})" for row, (name, _) in sorted(skipped.items())[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        raise InputError(
            f"{len(skipped)} rows of {dataset.name}/{partition} could not be decoded when these features were "
            f"extracted: {names}{more}: repair or remove them, or set features.on_error=skip"
        )
    valid = np.logical_and.reduce([p.valid for p in found.values()])
    valid.flags.writeable = False
    for one in {p.folder: p for p in found.values()}.values():
        with suppress(OSError):  # a cache that can only be read is fine
            (one.folder.parent / "used").write_text(whoami())
    return Features(
        arrays={kind: p.array(kind) for kind, p in found.items()},
        labels=stored(rows.labels),
        ids=rows.ids,
        valid=valid,
        digest=digest(
            [
                identity,
                {kind: p.manifest["kinds"][kind]["dtype"] for kind, p in found.items()},
                sorted(skipped),
            ]
        ),
        seconds=seconds,
    )
