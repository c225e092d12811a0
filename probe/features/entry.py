"""Finished passes: reading their manifests, and arrays whose blocks are verified before they are used."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import StoreError
from probe.core.files import Stamp
from probe.core.hashing import hash_bytes
from probe.core.lazy import as_numbers
from probe.core.ragged import RaggedRows
from probe.features.blocks import Guard
from probe.features.layout import (
    HEADER_BYTES,
    PASS_NAME,
    array_file,
    checksum_file,
    listed,
    npy_header,
)
from probe.features.manifest import read_manifest

EAGER_BYTES = 8 * 2**20
"""Arrays up to this size are verified when they are opened (about a millisecond), larger ones as they are used."""


@dataclass(frozen=True)
class Pass:
    """One finished pass: its folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]
    advice: str | None = None

    @property
    def n_rows(self) -> int:
        """Rows of the partition, valid or not."""
        return int(self.manifest["n_rows"])

    def remedy(self) -> str:
        """What a user does about damage."""
        return self.advice or f"delete the folder {self.folder} and run again"

    def array(self, kind: str) -> Any:
        """The features of a kind as heads see them, read-only, whether rows have one length or each its own.

        Blocks that do not match their checksum raise `StoreError`.
        """
        guard = self.guard(kind)
        if guard.plain.nbytes <= EAGER_BYTES:
            guard.verify_all()
        numbers = as_numbers(CheckedMemmap.of(guard))
        offsets = self.offsets(kind)
        return numbers if offsets is None else RaggedRows(numbers, offsets)

    def offsets(self, kind: str) -> NDArray[np.int64] | None:
        """(N + 1,) where each row begins among the tokens of all; None of a kind whose rows have one length."""
        facts = self.manifest["kinds"][kind]
        if "n_tokens" not in facts:
            return None
        array = self._small_array(facts["offsets"])
        sound = array.shape == (self.n_rows + 1,) and array.dtype == np.int64 and (np.diff(array) >= 0).all()
        if not sound or array[0] != 0 or array[-1] != facts["n_tokens"]:
            raise StoreError(f"{self.folder / facts['offsets']} does not fit its manifest: {self.remedy()}")
        return array

    def guard(self, kind: str) -> Guard:
        """Opens the array of a kind: size and header are checked, its blocks are not yet."""
        facts = self.manifest["kinds"][kind]
        offsets = self.offsets(kind)
        path, dtype = self.folder / array_file(kind), facts["dtype"]
        shape = tuple(facts["shape"]) if offsets is None else (facts["n_tokens"], *facts["shape"][2:])
        expected = HEADER_BYTES + math.prod(shape) * np.dtype(dtype).itemsize
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size != expected:
                    raise StoreError(f"{path} holds {status.st_size} bytes, expected {expected}: {self.remedy()}")
                if file.read(HEADER_BYTES) != npy_header(dtype, shape):
                    raise StoreError(f"the header of {path} is not what was written: {self.remedy()}")
                plain = np.memmap(file, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=shape)
        except FileNotFoundError:
            raise StoreError(f"{path} is missing, its manifest names it: {self.remedy()}") from None
        key = (str(path), Stamp.of(status))
        with _GUARDS_LOCK:
            if key not in _GUARDS:
                block_rows = int(self.manifest["block_rows"])
                edges = None if offsets is None else offsets[[*range(0, self.n_rows, block_rows), self.n_rows]]
                _GUARDS[key] = Guard(plain, self._checksums(kind), block_rows, self, kind, edges)
            return _GUARDS[key]

    def _checksums(self, kind: str) -> NDArray[np.uint64]:
        array = self._small_array(checksum_file(kind))
        n_blocks = -(-self.n_rows // int(self.manifest["block_rows"]))
        if array.shape != (n_blocks,) or array.dtype != np.uint64:
            raise StoreError(f"{self.folder / checksum_file(kind)} does not fit its manifest: {self.remedy()}")
        return array

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(N,) True where the row could be decoded."""
        array = self._small_array("valid.npy")
        if array.shape != (self.n_rows,) or array.dtype != np.bool_:
            raise StoreError(f"{self.folder / 'valid.npy'} does not fit its manifest: {self.remedy()}")
        return array

    def _small_array(self, name: str) -> NDArray[Any]:
        import io

        try:
            return np.load(io.BytesIO(self.read(name)), allow_pickle=False)
        except ValueError:
            raise StoreError(f"{self.folder / name} is no array, expected one: {self.remedy()}") from None

    def read(self, name: str) -> bytes:
        """The bytes of one of the small files, verified."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise StoreError(f"{path} is missing, its manifest names it: {self.remedy()}") from None
        if hash_bytes(data) != self.manifest["files"].get(name):
            raise StoreError(f"{path} does not match its checksum, it was changed or damaged: {self.remedy()}")
        return data


def read_pass(folder: Path, remedy: str | None = None) -> Pass:
    """A finished pass, after its manifest was checked; errors advise the `remedy`, by default to delete the folder."""
    return Pass(folder, read_manifest(folder, remedy or f"delete the folder {folder} and run again"), remedy)


def read_passes(entry: Path) -> list[Pass]:
    """The finished passes of an entry, in a stable order; those removed meanwhile are not there."""
    try:
        names = sorted(p.name for p in entry.iterdir() if PASS_NAME.fullmatch(p.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        try:
            found.append(read_pass(entry / name))
        except OSError:  # StoreError among them
            if listed(entry / name):
                raise
    return found


_GUARDS: dict[tuple[str, Stamp], Guard] = {}
_GUARDS_LOCK = threading.Lock()


class CheckedMemmap(np.memmap):
    """A read-only memmap whose blocks are verified before the first use of any of their rows.

    Indexing verifies the rows it touches and returns plain arrays; whatever else numpy does with the whole array
    (ufuncs, functions, views, copies) verifies all of it first. `np.asarray` and `torch.from_numpy` of a whole array
    larger than `EAGER_BYTES` go through no hook: index with `[:]` there.
    """

    _guard: Guard | None = None

    @classmethod
    def of(cls, guard: Guard) -> CheckedMemmap:
        """The array that a guard watches over."""
        checked = guard.plain.view(cls)
        checked._guard = guard
        return checked

    @property
    def origin(self) -> dict[str, str] | None:
        """Which array of which entry it is, of backbone and rows by name too; None for a view of one."""
        if self._guard is None:
            return None
        source, facts = self._guard.source, self._guard.source.manifest["provenance"]
        names = {"backbone": facts["backbone"], "rows_of": facts["dataset"]}
        return {"entry": source.folder.parent.name, "kind": self._guard.kind, "dtype": self.dtype.name, **names}

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self._guard = None
        guard = getattr(obj, "_guard", None)
        if guard is not None:
            guard.verify_all()

    def __getitem__(self, key: Any) -> Any:
        if self._guard is None:
            return np.ndarray.__getitem__(self.view(np.memmap), key)
        first = key[0] if isinstance(key, tuple) and key else key
        self._guard.verify_rows(first)
        return self._guard.plain[key]

    def verify(self, rows: Any) -> None:
        """Verifies rows that are about to be read from the file without going through this array."""
        if self._guard is not None:
            self._guard.verify_rows(rows)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*(_plain(x) for x in inputs), **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self._guard is not None:
            self._guard.verify_all()
        return super().__array_function__(func, types, args, kwargs)

    def __reduce__(self) -> Any:
        return np.array(self[:]).__reduce__()

    def __deepcopy__(self, memo: Any) -> CheckedMemmap:
        # Nobody can write into it: a clone of a head that refers to it reads the same file.
        return self


def _plain(value: Any) -> Any:
    if not isinstance(value, CheckedMemmap):
        return value
    if value._guard is not None:
        value._guard.verify_all()
    return value.view(np.ndarray)
