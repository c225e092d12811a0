"""Kinds of which rows differ in length: while they are extracted, and the one array that they become.

Where the rows of a block begin hangs on all rows before it, which others may be extracting. So each writer appends its
blocks to a file of its own, a line of its journal says where, and whoever finishes copies them in order:

    .work-<pass>/writers/<id>.<kind>.segment   tokens of the blocks of one writer, one block after the other
    <pass>/<kind>.npy, <kind>.offsets.npy      the tokens of all rows in their order, and where each row begins
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import StoreError
from probe.features.blocks import block_hash
from probe.features.extraction.plan import Block, Plan
from probe.features.extraction.work import Work
from probe.features.layout import array_file, move, npy_header, offsets_file, stored_dtype, write_array


def ragged_kinds(blocks: Mapping[int, Block]) -> set[str]:
    """The kinds of which rows differ in length, as finished blocks tell."""
    return {kind for block in blocks.values() for kind in block.lengths}


def dtype_of(plan: Plan, kind: str, shape: tuple[int, ...]) -> np.dtype[Any]:
    """In which a kind is stored, by the shape of one token."""
    return np.dtype(stored_dtype(plan.kinds[kind], 2 + len(shape)))


def check_segments(work: Work, kind: str, blocks: Mapping[int, Block]) -> None:
    """Refuses to go on where segments were removed or cut off."""
    for number, block in blocks.items():
        if kind in block.places:
            name, start = block.places[kind]
            path, n_bytes = work.folder / "writers" / name, _n_bytes(work.plan, kind, block)
            try:
                there = path.stat().st_size
            except FileNotFoundError:
                there = -1
            if there < start + n_bytes and work.there():
                raise _lost(work, kind, number)


def check_room(work: Work, kinds: Iterable[str], blocks: Mapping[int, Block]) -> None:
    """Refuses to assemble what the disk cannot hold: segments stay until all arrays are made of them."""
    grown = needed = 0
    for kind in kinds:
        n_bytes = sum(_n_bytes(work.plan, kind, block) for block in blocks.values() if kind in block.places)
        needed = max(needed, grown + n_bytes)
        # What a process that was killed has assembled stays until the new array takes its place.
        grown += n_bytes - _size(work.data / array_file(kind))
    free = shutil.disk_usage(work.data).free
    if needed > free:
        raise StoreError(
            f"{needed / 2**20:.1f} MiB of features are to be put in the order of their rows, beside which they stay "
            f"until that is done, and the cache has {free / 2**20:.1f} MiB free: make room (`probe cache prune "
            "--older-than 30d`) and run again, what is extracted is kept"
        )


def assemble(work: Work, kind: str, blocks: Mapping[int, Block]) -> dict[str, Any]:
    """Writes the array of a kind and its offsets into the data folder; what a manifest says of them.

    Repeating it after a kill is harmless.

    Raises:
        StoreError: A block is not what was written.
    """
    plan = work.plan
    shape = next(tuple(block.shapes[kind]) for block in blocks.values() if kind in block.shapes)
    dtype = dtype_of(plan, kind, shape)
    lengths = np.zeros(plan.n_rows, dtype=np.int64)
    for number, block in blocks.items():
        if kind in block.lengths:
            rows = plan.rows(number)
            lengths[rows.start : rows.stop] = block.lengths[kind]
    n_tokens, path = int(lengths.sum()), work.data / array_file(kind)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(part, "wb") as file:
        file.write(npy_header(dtype.name, (n_tokens, *shape)))
        for tokens in _in_order(work, kind, blocks):
            file.write(tokens.data)
        file.flush()
        os.fsync(file.fileno())
    move(part, path)
    write_array(work.data / offsets_file(kind), np.concatenate([[0], np.cumsum(lengths)]))
    return {
        "file": array_file(kind),
        "shape": [plan.n_rows, int(lengths.max()), *shape],
        "dtype": dtype.name,
        "requested": plan.kinds[kind],
        "n_tokens": n_tokens,
        "offsets": offsets_file(kind),
    }


def _in_order(work: Work, kind: str, blocks: Mapping[int, Block]) -> Iterator[NDArray[np.uint8]]:
    for number in range(work.plan.n_blocks):
        block = blocks[number]
        if kind not in block.places:
            continue
        name, start = block.places[kind]
        path = work.folder / "writers" / name
        try:
            with open(path, "rb") as file:
                file.seek(start)
                tokens = np.frombuffer(file.read(_n_bytes(work.plan, kind, block)), dtype=np.uint8)
        except FileNotFoundError:
            raise _lost(work, kind, number) from None
        if block_hash(tokens) != block.hashes[kind]:
            raise _lost(work, kind, number)
        yield tokens


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _n_bytes(plan: Plan, kind: str, block: Block) -> int:
    shape = tuple(block.shapes[kind])
    return sum(block.lengths[kind]) * int(np.prod(shape)) * dtype_of(plan, kind, shape).itemsize


def _lost(work: Work, kind: str, number: int) -> StoreError:
    rows = work.plan.rows(number)
    return StoreError(
        f"the interrupted extraction in {work.folder} has lost rows of {array_file(kind)} ({rows[0]} to {rows[-1]}): "
        "delete that folder and run again"
    )
