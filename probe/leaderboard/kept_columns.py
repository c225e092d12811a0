"""Keeps what was worked out for each column of a large board, so that a new run costs the columns that it touches.

Each piece is named by a digest of all that it follows from: the rows that its systems got right under each seed, in
order; what names the random numbers where it draws some; and the code of this room. So a piece is right wherever it
is found, whoever wrote it and whatever came between. The file begins with a digest of its content, and one that does
not give it holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.core import tensors
from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.core.writing import write_file

KEPT = ".leaderboard-columns"
N_DIGEST = 32
Arrays = dict[str, NDArray[Any]]


class Pieces:
    """What is known of columns, by name; what is not is made and remembered.

    Args:
        kept: Of an earlier table.
        code: Digest of what makes them; part of each name.
        digest_of: Gives the digest of some rows of a column, in order; "" of one that nothing is to be kept of.
    """

    def __init__(
        self,
        kept: Mapping[str, Arrays] | None = None,
        code: str = "",
        digest_of: Callable[[str, Sequence[str]], str] = lambda column, rows: "",
    ):
        self._kept, self._code, self.digest_of = dict(kept or {}), code, digest_of
        self._used: dict[str, Arrays] = {}
        self.found_some = False

    def get(
        self,
        column: str,
        of: tuple[Any, ...],
        make: Callable[[], Arrays],
        holds: Callable[[Arrays], bool] = lambda found: True,
    ) -> Arrays:
        """One piece of a column.

        Args:
            column: Its digest; of one without any nothing is remembered.
            of: What it is, and what else it follows from.
            make: Gives it.
            holds: Whether one that was found will do.
        """
        if not column:
            return make()
        name = digest([self._code, column, *of])
        self.found_some |= name in self._kept
        found = self._used.get(name, self._kept.get(name))
        if found is None or not holds(found):
            found = make()
        self._used[name] = found
        return found

    def save(self, folder: Path) -> None:
        """Keeps all that was asked for, and nothing else; a folder that cannot be written to keeps none."""
        if not self._used:
            return
        arrays = {f"{name}/{field}": value for name, piece in self._used.items() for field, value in piece.items()}
        content = tensors.to_bytes(arrays)
        with suppress(OSError, InputError):
            write_file(folder / KEPT, hash_bytes(content).encode() + content)


def load(folder: Path, code: str, digest_of: Callable[[str, Sequence[str]], str]) -> Pieces:
    """The pieces of a folder; none where there is no file or it is not as it was written."""
    kept: dict[str, Arrays] = {}
    with suppress(OSError, InputError, ValueError):
        content = (folder / KEPT).read_bytes()
        if content[:N_DIGEST] == hash_bytes(content[N_DIGEST:]).encode():
            for name, value in tensors.from_bytes(content[N_DIGEST:], KEPT)[0].items():
                piece, _, field = name.partition("/")
                kept.setdefault(piece, {})[field] = value
    return Pieces(kept, code, digest_of)
