"""The end of an extraction: the work folder's data becomes a finished pass by one rename."""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Backbone, Partition, digest
from probe.core.errors import InputError, StoreError
from probe.core.hashing import hash_bytes
from probe.core.int8 import unknown
from probe.core.targets import stored
from probe.features.blocks import block_hash
from probe.features.extraction.plan import Block
from probe.features.extraction.segments import assemble, check_room, check_segments, ragged_kinds
from probe.features.extraction.sink import ArrayFiles
from probe.features.extraction.work import Work
from probe.features.layout import (
    SCHEMA,
    WORK_PREFIX,
    array_file,
    checksum_file,
    listed,
    sync_folder,
    write_array,
    write_file,
    write_json,
)


def finish(work: Work, identity: dict[str, Any], backbone: Backbone, dataset: str, partition: Partition) -> None:
    """Completes the data folder and renames it to its final name. Repeating it after a kill is harmless.

    Raises:
        InputError: no row at all could be decoded.
    """
    plan, blocks = work.plan, work.done()
    if not work.there():  # by others, whom this process took for dead
        raise FileNotFoundError(work.data)
    invalid = {int(row): why for block in blocks.values() for row, why in block.invalid.items()}
    if len(invalid) == plan.n_rows:
        first = min(invalid)
        work.discard()
        raise InputError(
            f"none of the {plan.n_rows} rows of {dataset} could be decoded (row {first}, {partition.ids[first]}: "
            f"{invalid[first]}): look at the files and at the transform of backbone {backbone.name}"
        )
    for leftover in work.data.glob("*.tmp"):  # of a finish that was killed
        leftover.unlink(missing_ok=True)
    kinds, small = complete_arrays(work, blocks)
    small += write_rows(work, partition, list(invalid))
    manifest = {
        "schema": SCHEMA,
        "identity": identity,
        "n_rows": plan.n_rows,
        "block_rows": plan.block_rows,
        "kinds": kinds,
        "skipped": {str(row): [partition.ids[row], why] for row, why in sorted(invalid.items())},
        "files": {name: hash_bytes((work.data / name).read_bytes()) for name in small},
        "provenance": {
            "backbone": backbone.name,
            "dataset": dataset,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": whoami(),
            "seconds": round(sum(block.seconds for block in blocks.values()), 3),
            "versions": {name: version(name) for name in ("torch", "numpy")},
        },
    }
    write_json(work.data / "manifest.json", {**manifest, "digest": digest(manifest)})
    put_in_place(work)


def complete_arrays(work: Work, blocks: dict[int, Block]) -> tuple[dict[str, Any], list[str]]:
    """Completes the array of each kind and writes its checksums; what a manifest says of it, and the small files."""
    plan = work.plan
    shapes = next(block.shapes for block in blocks.values() if block.shapes)
    ragged = ragged_kinds(blocks)
    in_order = [kind for kind in plan.kinds if kind in ragged]
    check_room(work, in_order, blocks)
    facts = {kind: assemble(work, kind, blocks) for kind in in_order}
    small = [facts[kind]["offsets"] for kind in in_order]
    for kind, values in fill_empty_blocks(work, blocks, shapes, ragged).items():
        write_array(work.data / checksum_file(kind), values)
        small.append(checksum_file(kind))
    files = ArrayFiles(work.data, plan)
    for kind in set(plan.kinds) - ragged:
        facts[kind] = {
            "file": array_file(kind),
            "shape": [plan.n_rows, *shapes[kind]],
            "dtype": files.dtype(kind, shapes[kind]).name,
            "requested": plan.kinds[kind],
        }
    return {kind: facts[kind] for kind in plan.kinds}, small


def write_rows(work: Work, partition: Partition, invalid: list[int]) -> list[str]:
    """Writes what is known of the rows beside their features; the files."""
    valid = np.ones(work.plan.n_rows, dtype=np.bool_)
    valid[invalid] = False
    write_array(work.data / "valid.npy", valid)
    write_array(work.data / "labels.npy", stored(partition.labels))
    write_file(work.data / "ids.json", json.dumps(list(partition.ids), ensure_ascii=False).encode())
    return ["valid.npy", "labels.npy", "ids.json"]


def put_in_place(work: Work) -> None:
    """Renames the data folder to its final name, by which all find it."""
    sync_folder(work.data)
    final = work.folder.parent / work.folder.name.removeprefix(WORK_PREFIX)
    try:
        os.rename(work.data, final)
    except OSError:  # already there counts as done
        if work.there() and not listed(final):
            raise
    sync_folder(work.folder.parent)
    work.discard()


def fill_empty_blocks(work: Work, blocks: dict[int, Block], shapes: Any, ragged: set[str]) -> dict[str, np.ndarray]:
    """Kind -> checksum of each block; writes NaN to the blocks of which no row could be decoded.

    Where rows differ in length such a row has no token, which is nothing to write.
    """
    plan = work.plan
    hashes = {kind: np.zeros(plan.n_blocks, dtype=np.uint64) for kind in plan.kinds}
    files = ArrayFiles(work.data, plan)
    for number, block in blocks.items():
        for kind in plan.kinds:
            if block.hashes:
                hashes[kind][number] = block.hashes[kind]
                continue
            if kind in ragged:
                hashes[kind][number] = block_hash(np.empty(0, np.uint8))
                continue
            rows = plan.rows(number)
            empty = unknown((len(rows), *shapes[kind]), files.dtype(kind, shapes[kind]))
            files.write(kind, rows[0], empty)
            hashes[kind][number] = block_hash(empty)
    files.sync()
    files.close()
    return hashes


def check_data(work: Work) -> None:
    """Refuses to go on with an interrupted extraction whose arrays were removed or cut off."""
    blocks = [block for block in work.done().values() if block.shapes]
    files = ArrayFiles(work.data, work.plan)
    if not work.there():
        raise FileNotFoundError(work.data)
    ragged = ragged_kinds(work.done())
    for kind in ragged:
        check_segments(work, kind, work.done())
    for kind in set(work.plan.kinds) - ragged if blocks else ():
        shape = blocks[0].shapes[kind]
        path = work.data / array_file(kind)
        if file_size(path) != files.bytes(kind, shape) and work.there():
            raise StoreError(
                f"the interrupted extraction in {work.folder} has lost rows of {path.name}: "
                "delete that folder and run again"
            )


def file_size(path: Path) -> int | None:
    """The size of a file, or None. It is opened, for `stat` may answer from an NFS client's memory."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None


def whoami() -> str:
    """User and machine, for the record; the user's number where the machine knows no name."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
