"""Looking after the cache: what is in it, whether it is whole, and making room."""

from __future__ import annotations

import fnmatch
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from probe.core.errors import InputError, StoreError
from probe.features import layout
from probe.features.entry import Pass, read_pass
from probe.features.extraction.work import Work, discard

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


@dataclass(frozen=True)
class Damage:
    """What `verify` found: a kind's rows first to last, or a whole file (kind and rows None)."""

    folder: Path
    text: str
    kind: str | None = None
    rows: tuple[int, int] | None = None


def records(root: Path) -> list[Record]:
    """All passes in a cache, the one used last first."""
    found = [record_of(entry, folder) for entry in entries(root) for folder in passes(entry)]
    return sorted((r for r in found if r is not None), key=lambda r: r.used, reverse=True)


def entries(root: Path) -> Iterator[Path]:
    """The entry folders of a cache; whatever else lies there is left alone."""
    if (root / "features").is_dir():
        yield from sorted(p for p in (root / "features").iterdir() if layout.ENTRY_NAME.fullmatch(p.name))


def passes(entry: Path) -> Iterator[Path]:
    """The folders of finished passes and of extractions."""
    for path in sorted(entry.iterdir()):
        if layout.PASS_NAME.fullmatch(path.name.removeprefix(layout.WORK_PREFIX)):
            yield path


def record_of(entry: Path, folder: Path) -> Record | None:
    """Describes a pass; None for the empty remains of an extraction that was finished."""
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
        except StoreError:
            state = "damaged"
    else:
        try:
            manifest = read_pass(folder).manifest
            facts = manifest["provenance"]
            state, kinds, n_rows = "finished", list(manifest["kinds"]), manifest["n_rows"]
            backbone, rows, created = facts["backbone"], facts["dataset"], facts["created"]
        except StoreError:
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
    if folder.name.startswith(layout.WORK_PREFIX) or not mark.exists():
        newest = max((p.stat().st_mtime for p in [folder, *folder.rglob("*")]), default=time.time())
        return datetime.fromtimestamp(newest, UTC), "?"
    return datetime.fromtimestamp(mark.stat().st_mtime, UTC), mark.read_text(errors="replace")


def size(folder: Path) -> int:
    """Bytes that a folder takes on the disk; arrays under way count what is written of them."""
    return sum(getattr(s, "st_blocks", -(-s.st_size // 512)) * 512 for s in (p.lstat() for p in folder.rglob("*")))


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
            yield from verify_pass(record.folder)


def verify_pass(folder: Path) -> Iterator[Damage]:
    """Yields everything that is damaged in a finished pass: files, and rows of kinds."""
    try:
        found = Pass(folder, read_pass(folder).manifest)
    except StoreError as error:
        yield Damage(folder, str(error))
        return
    for name in found.manifest["files"]:
        try:
            found.read(name)
        except StoreError as error:
            yield Damage(folder, str(error))
    for kind in found.manifest["kinds"]:
        try:
            for first, last in found.guard(kind).mismatches():
                text = f"{kind} rows {first} to {last} in {folder} do not match their checksum"
                yield Damage(folder, text, kind, (first, last))
        except StoreError as error:
            yield Damage(folder, str(error), kind)


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
        for record in doomed:
            discard(record.folder)
        for entry in list(entries(root)):
            sweep(entry)
    return doomed


def sweep(entry: Path) -> None:
    """Removes the remains of killed processes from an entry, and the entry when nothing else is left."""
    for path in entry.iterdir():
        remains = path.name.startswith(layout.WORK_PREFIX) and not (path / "data").exists()
        if (path.name.startswith(layout.TRASH_PREFIX) and time.time() - path.stat().st_mtime > 60) or remains:
            shutil.rmtree(path, ignore_errors=True)
    if {p.name for p in entry.iterdir()} <= {"used"}:
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


def import_entry(root: Path, source: Path) -> Path:
    """Takes an exported folder into the cache, after verifying all of it. What is there already stays."""
    if not layout.ENTRY_NAME.fullmatch(source.name) or not list(source.glob("*/manifest.json")):
        raise InputError(
            f"{source} is no exported entry: give the folder that `probe cache export` made, under the name it gave it"
        )
    for manifest in sorted(source.glob("*/manifest.json")):
        copy_pass(manifest.parent, root / "features" / source.name)
    return root / "features" / source.name


def copy_pass(folder: Path, entry: Path) -> None:
    """Copies a finished pass into an entry's folder, whole or not at all."""
    if (entry / folder.name).exists():
        return
    if damage := next(verify_pass(folder), None):
        raise StoreError(f"{damage.text}: it is not copied")
    try:
        part = entry / f"{layout.TRASH_PREFIX}{uuid.uuid4().hex}"
        entry.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, part)
        layout.move(part, entry / folder.name)
    except OSError as error:
        raise layout.write_error(error, entry.parent) from error
