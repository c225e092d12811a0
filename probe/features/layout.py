"""Where features stand on disk, and the small file operations that keep them whole.

    <cache>/features/<entry>/<pass>/manifest.json  pooled.npy  pooled.xxh3.npy  valid.npy  labels.npy  ids.json
    <cache>/features/<entry>/.work-<pass>/         an extraction under way or interrupted (see `work`)

An entry is one backbone, one set of rows. A pass is what one extraction stored of it: some kinds, each in one dtype.
A pass folder appears by one rename, complete, and is never changed afterwards.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from probe.core.base import Backbone, Dataset, digest
from probe.core.errors import StoreError
from probe.core.kinds import KINDS, dtype_of_layer
from probe.core.source import features_code_of, identity_of, is_own

SCHEMA = 1
WORK_PREFIX = ".work-"
TRASH_PREFIX = ".trash-"
HEADER_BYTES = 4096
"""Rows start on a page of their own: two hosts that write one file never share a page with the header."""

ENTRY_NAME = re.compile(r"[0-9a-f]{32}")
PASS_NAME = re.compile(r"[0-9a-f]{16}")
DEFAULT_DTYPES = {name: kind.dtype for name, kind in KINDS.items()}


def entry_identity(backbone: Backbone, dataset: Dataset, partition: str) -> dict[str, Any]:
    """Everything that determines the features of these rows, and nothing else.

    The rows enter by the fingerprint of their own partition: a new test image costs no extraction of train.
    """
    rows = dataset.partitions[partition]
    read_by = rows_code(rows)
    return {
        "backbone": identity_of(backbone),
        "partition": partition,
        "rows": rows.fingerprint,
        **({"read_by": read_by} if read_by else {}),
    }


def rows_code(rows: Any) -> dict[str, Any]:
    """Which code reads the rows, where that is not this package's."""
    inner = getattr(rows, "whole", None)  # a subset of it
    if inner is None and any(is_own(base) for base in type(rows).__mro__):
        # Beside captions, labels of pixels or judgements; in a class of others the words may mean anything.
        inner = getattr(rows, "images", getattr(rows, "rows", None))
    if not hasattr(inner, "ids"):
        return features_code_of(type(rows))
    within = rows_code(inner)
    if is_own(type(rows)):
        return within
    code = features_code_of(type(rows))
    return {**code, "within": within} if within else code


def entry_digest(identity: Mapping[str, Any]) -> str:
    """The name of an entry's folder."""
    return digest({"schema": SCHEMA, **identity})


def pass_digest(requested: Mapping[str, str]) -> str:
    """The name of the folder of a pass over these kinds in these dtypes."""
    return digest(requested)[:16]


def requested_dtypes(kinds: Mapping[str, str | None]) -> dict[str, str]:
    """Kind -> dtype, or `default` for a tapped layer whose number of axes only an extraction tells."""
    return {kind: dtype or DEFAULT_DTYPES.get(kind, "default") for kind, dtype in kinds.items()}


def stored_dtype(requested: str, ndim: int) -> str:
    """The dtype of an array of `ndim` axes: (N, D) float32 and larger ones float16, unless asked otherwise."""
    return requested if requested != "default" else dtype_of_layer(ndim)


def array_file(kind: str) -> str:
    """The file name of a kind, safe whatever the layer is called."""
    return f"{quote(kind, safe='')}.npy"


def checksum_file(kind: str) -> str:
    """The file name of a kind's block checksums."""
    return f"{quote(kind, safe='')}.xxh3.npy"


def offsets_file(kind: str) -> str:
    """The file name of where each row begins, of a kind of which rows differ in length."""
    return f"{quote(kind, safe='')}.offsets.npy"


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The header of a version 1.0 .npy file, padded to `HEADER_BYTES`."""
    fields = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + repr(fields).encode().ljust(HEADER_BYTES - 11) + b"\n"


def write_file(path: Path, data: bytes) -> None:
    """Writes a whole file so that it is there completely or not at all, and stays after a power cut."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    move(part, path)


def move(source: Path, target: Path) -> None:
    """Renames. An NFS client that repeats a request, because its answer was lost, is told that nothing is there."""
    try:
        os.replace(source, target)
    except FileNotFoundError:
        if listed(source) or not listed(target):
            raise


def write_json(path: Path, value: Any) -> None:
    """Writes JSON as `write_file` does."""
    write_file(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode())


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a small .npy file as `write_file` does."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_file(path, buffer.getvalue())


def gone(error: OSError) -> bool:
    """Whether an error says that a file or its folder was removed; NFS has a word of its own for those in use."""
    return isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE


def listed(path: Path) -> bool:
    """Whether a folder holds a name. `Path.exists` may answer from an NFS client's memory; opening a folder asks."""
    try:
        return path.name in os.listdir(path.parent)
    except OSError as error:
        if gone(error):
            return False
        raise


def sync_folder(path: Path) -> None:
    """Makes creations and renames inside a folder durable, where the platform can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(error: OSError, root: Path) -> StoreError:
    """The sentence for a cache that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"no space left in the cache {root} while extracting: what is finished is kept; make room "
            "(`probe cache prune --older-than 30d`) or set PROBE_CACHE to another disk, and run again to go on"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(
            f"the cache {root} cannot be written ({error.strerror}) and these features are not in it yet: "
            "set PROBE_CACHE to a folder that can be written"
        )
    return StoreError(f"the cache {root} cannot be written ({error}): check the disk, or set PROBE_CACHE elsewhere")
