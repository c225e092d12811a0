"""Keeps the table of a large board in a hidden file beside its index, and shows it again while nothing changed.

Its key is a digest of what the table follows from: the index, which holds every run and the stamps of its files; the
metric; what rows and columns are; and the code of this room and of the metrics. The file is one line, the key and a
digest of what follows, and the table as JSON, however that is spelled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probe.core.base import digest
from probe.core.hashing import hash_bytes
from probe.core.writing import write_file
from probe.leaderboard.records import Records
from probe.leaderboard.statistics import Scores

if TYPE_CHECKING:
    import pandas as pd

KEPT = ".leaderboard-table"
SECONDS = 1.0
"""Tables that took less are made anew: a small board needs no file."""


@dataclass(frozen=True)
class Made:
    """What takes time to make of a table; see `probe.leaderboard.table.Table`."""

    cells: pd.DataFrame
    ranking: pd.DataFrame
    notes: list[str]
    rows: tuple[str, ...]


class LateScores(Mapping[tuple[str, str], Scores]):
    """Row values behind the cells of a table, read when somebody asks for the first."""

    def __init__(self, make: Callable[[], Mapping[tuple[str, str], Scores]]):
        self._make = make

    @cached_property
    def _found(self) -> Mapping[tuple[str, str], Scores]:
        return self._make()

    def __getitem__(self, key: tuple[str, str]) -> Scores:
        return self._found[key]

    def __contains__(self, key: object) -> bool:
        return key in self._found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def key_of(records: Records, *asked: object) -> str:
    """What a table of these runs is kept under; empty where they are not just what an index holds."""
    read = records.read
    return digest([read.digest, code(), *asked]) if read and read.frame is records.frame else ""


def load(records: Records, key: str) -> Made | None:
    """The table that was kept under a key."""
    if not (key and records.read):
        return None
    import pandas as pd

    try:
        head, _, told = (records.read.folder / KEPT).read_bytes().partition(b"\n")
        if head != _head(key, told):
            return None
        kept = json.loads(told)
        cells, ranking = (pd.DataFrame(kept[name]) for name in ("cells", "ranking"))
        return Made(cells, ranking, list(kept["notes"]), tuple(kept["rows"]))
    except (OSError, ValueError, KeyError, TypeError):  # whatever a damaged file gives, the table can be made anew
        return None


def save(records: Records, key: str, made: Made) -> None:
    """Keeps a table; a folder that cannot be written to keeps none."""
    if not (key and records.read):
        return
    frames = {
        what: {name: values.tolist() for name, values in frame.items()}
        for what, frame in (("cells", made.cells), ("ranking", made.ranking))
    }
    told = json.dumps({**frames, "notes": made.notes, "rows": made.rows}, separators=(",", ":")).encode()
    with suppress(OSError):
        write_file(records.read.folder / KEPT, _head(key, told) + b"\n" + told)


def _head(key: str, told: bytes) -> bytes:
    """The first line of the file that tells a table under a key."""
    return f"{key} {hash_bytes(told)}".encode()


@cache
def code() -> str:
    """Digest of the code that makes tables, and of what computes for it."""
    import scipy

    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *(here.parent / "metrics").rglob("*.py")])
    versions = f"{np.__version__} {scipy.__version__}".encode()
    return hash_bytes(b"\0".join([versions, *(path.read_bytes() for path in files)]))
