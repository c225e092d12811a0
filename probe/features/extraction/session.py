"""One call's way through an extraction: contribute, wait for the others, finish."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Backbone, Dataset, Partition
from probe.core.escaping import one_line
from probe.core.terminal import bars
from probe.core.texts import Text
from probe.features.extraction.batches import n_bytes
from probe.features.extraction.contribute import contribute
from probe.features.extraction.finish import check_data, finish
from probe.features.extraction.guard import check_function_of_row
from probe.features.extraction.plan import Plan
from probe.features.extraction.work import Work
from probe.features.extraction.writer import Writer

SHARED_MEMORY = Path("/dev/shm")
BATCHES_PER_WORKER = 3
"""Two that a worker has ahead, and the one in work."""
USUAL_ROW_BYTES = 3 * 224 * 224 * 4
POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 2.0
"""Who waits looks ever more seldom: a look reads the journals of all writers."""


class Extraction:
    """Takes part in extractions of one backbone on one partition, with a progress bar."""

    def __init__(
        self,
        backbone: Backbone,
        dataset: Dataset,
        partition: str,
        identity: dict[str, Any],
        device: str,
        n_workers: int | None,
        on_error: str,
        progress: bool,
    ):
        from probe.core.device import resolve_device

        self.device = resolve_device(device)
        self.backbone = backbone.to(self.device)
        self.name = f"{dataset.name}/{partition}"
        self.rows = dataset.partitions[partition]
        self.identity, self.n_workers, self.on_error, self.progress = identity, n_workers, on_error, progress
        self._checked: set[str] = set()

    def check(self, plan: Plan) -> None:
        """Refuses features that are no function of the row, once for the kinds of a plan."""
        if set(plan.kinds) - self._checked:
            check_function_of_row(self.backbone, self.rows, plan, self.device)
            self._checked |= set(plan.kinds)

    def run(self, work: Work) -> None:
        """Returns when the pass is finished, by whomever.

        Raises:
            FileNotFoundError: the work folder went away, because another process finished it or threw it away.
        """
        check_data(work)
        with (
            Writer(work) as writer,
            bars()(
                total=work.plan.n_rows,
                initial=self._rows_done(work),
                desc=one_line(f"{self.backbone.name} {self.name}"),
                unit=unit(self.rows),
                disable=not self.progress,
            ) as bar,
        ):
            n_workers = self.n_workers
            if n_workers is None:
                n_workers = usual_workers(self.backbone, self.rows, work.plan, self.device)
            pause = POLL_SECONDS
            while not work.complete():
                contribute(
                    self.backbone,
                    self.rows,
                    work,
                    writer,
                    device=self.device,
                    n_workers=n_workers,
                    on_error=self.on_error,
                    advance=bar.update,
                )
                bar.update(self._rows_done(work) - bar.n)
                if not work.complete():
                    time.sleep(pause)
                    pause = min(1.5 * pause, MAX_POLL_SECONDS)
            while not writer.claim_finish():
                time.sleep(POLL_SECONDS)
            finish(work, self.identity, self.backbone, self.name, self.rows)

    def _rows_done(self, work: Work) -> int:
        return sum(len(work.plan.rows(block)) for block in work.done())


def usual_workers(backbone: Backbone, rows: Partition, plan: Plan, device: str) -> int:
    """As many as keep a GPU busy with images: the cores of this process but one, where there is room for batches.

    On a CPU none: the network takes the cores.
    """
    if not device.startswith("cuda") or unit(rows) != " images" or not SHARED_MEMORY.is_dir():
        return 0
    try:
        row_bytes = n_bytes(backbone.transform(rows[0]))
    except Exception:  # whether a row that cannot be decoded stops the extraction is decided there
        row_bytes = USUAL_ROW_BYTES
    room = shutil.disk_usage(SHARED_MEMORY).free // (BATCHES_PER_WORKER * plan.block_rows * row_bytes)
    return min(max(1, own_cores() - 1), plan.n_blocks, room)


def own_cores() -> int:
    """Those that are not for the other ranks of torchrun, or the other jobs of a sweep."""
    import torch
    from joblib import cpu_count

    n_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return cpu_count() // n_ranks if n_ranks > 1 else torch.get_num_threads()


def unit(rows: Partition) -> str:
    """What the progress bar counts."""
    try:
        first = rows[0]
        return " texts" if isinstance(first, str | Text) else " rows" if isinstance(first, np.ndarray) else " images"
    except Exception:  # whether a row that cannot be decoded stops the extraction is decided there
        return " images"
