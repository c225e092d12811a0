"""One process's part in an extraction: rows -> batches -> backbone -> checked arrays on disk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from probe.core.base import Backbone, Partition
from probe.core.errors import InputError
from probe.features.extraction.batches import collate, each
from probe.features.extraction.forward import Arrays, Forward, Launched
from probe.features.extraction.plan import Plan
from probe.features.extraction.sink import Sink
from probe.features.extraction.work import Work
from probe.features.extraction.writer import Writer

Batch = tuple[int, Any, dict[int, str]]
Item = TypeVar("Item")


class Reader:
    """Reads blocks: number -> (number, stacked rows or None, row -> why it failed). Runs in DataLoader workers too."""

    def __init__(self, partition: Partition, backbone: Backbone, plan: Plan):
        self.partition, self.backbone, self.plan = partition, backbone, plan

    def __getitem__(self, block: int) -> Batch:
        import torch

        read: dict[int, Any] = {}
        failed: dict[int, str] = {}
        for row in self.plan.rows(block):
            try:
                read[row] = self.backbone.transform(self.partition[row])
            except Exception as error:
                failed[row] = f"{type(error).__name__}: {error}"
        if not read:
            return block, None, failed
        # Zeros stand in for rows that failed: the others see a batch of the same size, so they get the same bits.
        blank = each(torch.zeros_like, next(iter(read.values())))
        return block, collate(self.backbone, [read.get(row, blank) for row in self.plan.rows(block)]), failed


def read_batches(reader: Reader, blocks: Iterable[int], n_workers: int, pinned: bool) -> Iterator[Batch]:
    """Reads blocks in order; the next block is asked for only as far ahead as the workers prefetch."""
    if n_workers == 0:
        return (reader[block] for block in blocks)
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        reader,  # type: ignore[arg-type]
        batch_size=None,
        sampler=blocks,
        num_workers=n_workers,
        pin_memory=pinned,
        collate_fn=_as_it_is,
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


@contextmanager
def dying_workers(n_workers: int) -> Iterator[None]:
    """Says what to do about workers that end without a word of their own; torch tells of it wherever it notices."""
    try:
        yield
    except RuntimeError as error:
        if "shared memory" in str(error):
            raise InputError(
                f"{n_workers} workers ran out of shared memory, in which decoded batches wait: set features.n_workers "
                "or features.batch_size lower, or give the container more (docker run --shm-size=8g)"
            ) from error
        if "DataLoader worker (pid" in str(error):
            raise InputError(
                f"one of {n_workers} workers that decode was killed, most likely for want of memory: set "
                "features.n_workers or features.batch_size lower"
            ) from error
        raise


def contribute(
    backbone: Backbone,
    partition: Partition,
    work: Work,
    writer: Writer,
    *,
    device: str,
    n_workers: int,
    on_error: str,
    advance: Callable[[int], object],
) -> None:
    """Extracts ranges until none is left that nobody else has in hands.

    Decoding (in workers), copying to the device, computing, and writing (in the thread of `Sink`) overlap; so does, on
    a GPU, copying back.

    Raises:
        InputError: a row that cannot be decoded under `on_error="raise"`, features that are not finite or do not have
            one shape, workers that were killed. What was finished before stays finished.
    """
    import torch

    def blocks() -> Iterator[int]:
        while (claimed := writer.claim()) is not None:
            yield from claimed

    forward = Forward(backbone, partition, work.plan, device)
    reader = Reader(partition, backbone, work.plan)
    batches = read_batches(reader, blocks(), n_workers, pinned=device.startswith("cuda"))
    writer.keep_beating()
    clock = time.monotonic()
    with dying_workers(n_workers), Sink(writer) as sink, torch.inference_mode():
        for one, arrays in extracted(forward, batches, on_error):
            now = time.monotonic()
            sink.put(one.block, arrays, one.failed, now - clock)
            clock = now
            advance(len(work.plan.rows(one.block)))


def extracted(forward: Forward, batches: Iterable[Batch], on_error: str) -> Iterator[tuple[Launched, Arrays]]:
    """The features of batches, in their order; while some are handed on, the device computes those that follow.

    Raises:
        InputError: a row that cannot be decoded under `on_error="raise"`, and what `Forward` refuses.
    """

    def launched() -> Iterator[Launched]:
        for block, batch, failed in batches:
            if failed and on_error == "raise":
                row, reason = next(iter(failed.items()))
                raise InputError(
                    f"row {row} ({forward.partition.ids[row]}) cannot be decoded ({reason}): repair or remove it, "
                    "or set features.on_error=skip"
                )
            yield forward.launch(block, batch, failed)

    for one in delayed(launched(), forward.n_ahead):
        yield one, forward.collect(one)


def delayed(items: Iterable[Item], n: int) -> Iterator[Item]:
    """Hands on each item after n more were taken."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > n:
            yield waiting.popleft()
    yield from waiting
