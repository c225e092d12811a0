"""Looking after the cache: what is in it, whether it is whole, and making room."""

from __future__ import annotations

import fnmatch
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from probe.core.errors import InputError, StoreError
from probe.core.writing import writing
from probe.features import layout
from probe.features.copies import copy_pass
from probe.features.entry import read_pass
from probe.features.extraction.work import Work, discard
from probe.features.verification import Damage, verify_pass

SILENT_SECONDS = 3600.0
"""More than the clocks of a file server and its clients differ, so that no writer at work is taken for dead."""


@dataclass(frozen=True)
class Record:
    """One pass of the cache, finished or not.

    Attributes:
        entry: Digest of backbone and rows, the name of the folder above.
        state: `finished`, `extracting`, `interrupted` or `damaged`.
        used: When it was last read or written.
        by: Who used it last.
    """

    entry: str
    folder: Path
    state: str
    backbone: str
    rows: str
    kinds: tuple[str, ...]
    n_rows: int
    bytes: int
    created: str
    used: datetime
    by: str

    def matches(self, pattern: str) -> bool:
        """Whether a pattern means this one: the start of its digest, or its backbone or dataset with wildcards."""
        names = (self.backbone, self.rows, self.rows.rpartition("/")[0])
        return self.entry.startswith(pattern) or any(fnmatch.fnmatch(name, pattern) for name in names)


def records(root: Path) -> list[Record]:
    """All passes in a cache, the one used last first."""
    found = [record_of(entry, folder) for entry in entries(root) for folder in passes(entry)]
    return sorted((r for r in found if r is not None), key=lambda r: r.used, reverse=True)


def entries(root: Path) -> list[Path]:
    """The entry folders of a cache; whatever else lies there is left alone."""
    return entries_in(root / "features")


def entries_in(folder: Path) -> list[Path]:
    """What is named as an entry in a folder."""
    return [path for path in inside(folder) if layout.ENTRY_NAME.fullmatch(path.name)]


def passes(entry: Path) -> list[Path]:
    """The folders of finished passes and of extractions."""
    names = layout.PASS_NAME
    return [path for path in inside(entry) if names.fullmatch(path.name.removeprefix(layout.WORK_PREFIX))]


def inside(folder: Path) -> list[Path]:
    """What a folder holds; nothing where it is none, or none any more: other processes come and go."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def statuses(folder: Path) -> list[os.stat_result]:
    """What `lstat` says of a folder and everything below it, as far as it is still there."""
    found = []
    for path in [folder, *(Path(at) / name for at, folders, files in os.walk(folder) for name in [*folders, *files])]:
        with suppress(FileNotFoundError):
            found.append(path.lstat())
    return found


def record_of(entry: Path, folder: Path) -> Record | None:
    """Describes a pass; None for the empty remains of an extraction, and for what is removed meanwhile."""
    backbone, rows, kinds, n_rows, created = "?", "?", ["?"], 0, "?"
    if folder.name.startswith(layout.WORK_PREFIX):
        if not (folder / "data").exists():
            return None
        try:
            work = Work(folder)
            state = "extracting" if under_way(work) else "interrupted"
            kinds, n_rows, backbone, rows = (
                list(work.plan.kinds),
                work.plan.n_rows,
                work.plan.backbone,
                work.plan.dataset,
            )
        except FileNotFoundError:
            return None
        except StoreError:
            state = "damaged"
    else:
        try:
            manifest = read_pass(folder).manifest
            facts = manifest["provenance"]
            state, kinds, n_rows = "finished", list(manifest["kinds"]), manifest["n_rows"]
            backbone, rows, created = facts["backbone"], facts["dataset"], facts["created"]
        except StoreError:
            if not layout.listed(folder):
                return None
            state = "damaged"
    used, by = last_use(entry, folder)
    return Record(entry.name, folder, state, backbone, rows, tuple(kinds), n_rows, size(folder), created, used, by)


def under_way(work: Work) -> bool:
    """Whether anyone is at work. One look cannot hear a writer of another host beat: it counts for an hour."""
    signs = (work.folder / "writers" / f"{writer}.json" for writer in work.live_writers())
    with suppress(FileNotFoundError):
        return any(time.time() - sign.stat().st_mtime < SILENT_SECONDS for sign in signs)
    return True


def last_use(entry: Path, folder: Path) -> tuple[datetime, str]:
    """When a pass was last read or written, and by whom."""
    mark = entry / "used"
    if not folder.name.startswith(layout.WORK_PREFIX):
        with suppress(FileNotFoundError):
            return datetime.fromtimestamp(mark.stat().st_mtime, UTC), mark.read_text(errors="replace")
    newest = max((status.st_mtime for status in statuses(folder)), default=time.time())
    return datetime.fromtimestamp(newest, UTC), "?"


def size(folder: Path) -> int:
    """Bytes that a folder takes on the disk; arrays under way count what is written of them."""
    return sum(getattr(s, "st_blocks", -(-s.st_size // 512)) * 512 for s in statuses(folder)[1:])


def select(found: Iterable[Record], patterns: Sequence[str]) -> list[Record]:
    """The records that any of the patterns means; all of them without a pattern."""
    found = list(found)
    for pattern in patterns:
        if not any(r.matches(pattern) for r in found):
            raise InputError(f"nothing in the cache matches {pattern!r}: see `probe cache ls`")
    return [r for r in found if not patterns or any(r.matches(p) for p in patterns)]


def verify(root: Path, patterns: Sequence[str] = ()) -> Iterator[Damage]:
    """Reads every finished pass completely and yields what does not match its checksum."""
    for record in select(records(root), patterns):
        if record.state in ("finished", "damaged"):
            for damage in verify_pass(record.folder):
                if layout.listed(record.folder):  # else it was pruned meanwhile
                    yield damage


def prune(
    root: Path,
    *,
    older_than: timedelta | None = None,
    max_size: int | None = None,
    keep: Sequence[str] = (),
    dry_run: bool = False,
) -> list[Record]:
    """Removes what was not used for a time, then what was used longest ago until the rest is small enough.

    Extractions under way are never removed. What killed processes left half removed goes too.

    Returns:
        What was removed, or would be.
    """
    found = records(root)
    kept = select(found, keep) if keep else []
    candidates = [r for r in reversed(found) if r not in kept and r.state != "extracting"]
    now = datetime.now(UTC)
    doomed = [r for r in candidates if older_than is not None and now - r.used > older_than]
    total = sum(r.bytes for r in found) - sum(r.bytes for r in doomed)
    for record in candidates:
        if max_size is not None and total > max_size and record not in doomed:
            doomed.append(record)
            total -= record.bytes
    if not dry_run:
        with writing(root):
            for record in doomed:
                discard(record.folder)
            for entry in entries(root):
                sweep(entry)
    return doomed


def sweep(entry: Path) -> None:
    """Removes the remains of killed processes from an entry, and the entry when nothing else is left."""
    for path in inside(entry):
        remains = path.name.startswith(layout.WORK_PREFIX) and not (path / "data").exists()
        with suppress(FileNotFoundError):
            is_old = time.time() - path.stat().st_mtime > 60
            if remains or (is_old and path.name.startswith(layout.TRASH_PREFIX)):
                shutil.rmtree(path, ignore_errors=True)
    if {path.name for path in inside(entry)} <= {"used"}:
        with suppress(OSError):  # not empty any more: someone has just begun
            (entry / "used").unlink(missing_ok=True)
            entry.rmdir()


def export(root: Path, pattern: str, target: Path) -> Path:
    """Copies the finished passes of one entry, verified, into the folder `target/<entry>`."""
    chosen = [r for r in select(records(root), [pattern]) if r.state == "finished"]
    names = sorted({r.entry for r in chosen})
    if len(names) != 1:
        raise InputError(
            f"{pattern!r} means {len(names)} finished entries ({', '.join(n[:12] for n in names[:5])}), expected one: "
            "give the start of its digest, see `probe cache ls`"
        )
    for record in chosen:
        copy_pass(record.folder, target / names[0])
    return target / names[0]


def exported(source: Path) -> list[Path]:
    """The exported entries at a place: itself, or those in the folder that they were exported into."""
    if layout.ENTRY_NAME.fullmatch(source.absolute().name):
        return [source]
    return [entry for entry in entries_in(source) if not entry.is_symlink() and _exported_passes(entry)] or [source]


def _exported_passes(entry: Path) -> list[Path]:
    """Without those of extractions, which another cache has too."""
    return [folder for folder in passes(entry) if not folder.name.startswith(layout.WORK_PREFIX)]


def import_entry(root: Path, source: Path) -> Path:
    """Takes an exported folder into the cache, after verifying all of it. What is there already stays."""
    name = source.absolute().name
    found = _exported_passes(source)
    if not layout.ENTRY_NAME.fullmatch(name) or not found:
        raise InputError(
            f"{source} is no exported entry and holds none: give the folder that `probe cache export` wrote to, or one "
            "entry in it, under the name it gave it"
        )
    for folder in found:
        if folder.is_symlink():
            raise InputError(f"{folder} is a symbolic link, expected a folder: export the entry again")
        copy_pass(folder, root / "features" / name)
    return root / "features" / name
