"""One call's way through an extraction: contribute, wait for the others, finish."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from probe.base import Backbone, Dataset, Partition
from probe.features.extract import contribute
from probe.features.finish import check_data, finish
from probe.features.work import Work
from probe.features.writer import Writer

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
        n_workers: int,
        on_error: str,
        progress: bool,
    ):
        from probe.estimator import resolve_device

        self.device = resolve_device(device)
        self.backbone = backbone.to(self.device)
        self.name = f"{dataset.name}/{partition}"
        self.rows = dataset.partitions[partition]
        self.identity, self.n_workers, self.on_error, self.progress = identity, n_workers, on_error, progress

    def run(self, work: Work) -> None:
        """Returns when the pass is finished, by whomever.

        Raises:
            FileNotFoundError: the work folder went away, because another process finished it or threw it away.
        """
        from tqdm import tqdm

        check_data(work)
        with (
            Writer(work) as writer,
            tqdm(
                total=work.plan.n_rows,
                initial=self._rows_done(work),
                desc=f"{self.backbone.name} {self.name}",
                unit=unit(self.rows),
                disable=not self.progress,
            ) as bar,
        ):
            pause = POLL_SECONDS
            while not work.complete():
                contribute(
                    self.backbone,
                    self.rows,
                    work,
                    writer,
                    device=self.device,
                    n_workers=self.n_workers,
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


def unit(rows: Partition) -> str:
    """What the progress bar counts."""
    try:
        return " rows" if isinstance(rows[0], np.ndarray) else " images"
    except Exception:  # whether a row that cannot be decoded stops the extraction is decided there
        return " images"
