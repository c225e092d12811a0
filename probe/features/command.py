"""The command `probe cache`: looks at the cache and looks after it."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from probe.core.errors import InputError
from probe.core.files import cache_root, nearest_folder
from probe.core.terminal import tell
from probe.features import upkeep

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {f"{unit[0]}IB": 2 ** (10 * i) for i, unit in enumerate(UNITS) if i}
UNITS |= {unit[0]: n for unit, n in UNITS.items() if unit[1:] == "B"}
SPANS = {"h": "hours", "d": "days", "w": "weeks"}


def main(argv: list[str]) -> int:
    """Serves `probe cache <word> …`; returns the exit code: 1 where `verify` finds damage, else 0."""
    arguments = parser().parse_args(argv)
    root = Path(arguments.cache).expanduser() if arguments.cache else cache_root()
    nearest_folder(root, "--cache=<folder>")
    return int(COMMANDS[arguments.word](root, arguments))


def parser() -> argparse.ArgumentParser:
    """The words and options of the command."""
    top = argparse.ArgumentParser(prog="probe cache", description=__doc__)
    top.add_argument("--cache", metavar="FOLDER", help="default: $PROBE_CACHE, else the platform's cache folder")
    words = top.add_subparsers(dest="word", required=True, metavar="ls | du | verify | prune | export | import")
    which = "start of a digest, or a backbone or dataset (wildcards allowed)"
    words.add_parser("ls", help="what is there").add_argument("patterns", nargs="*", metavar="WHICH", help=which)
    words.add_parser("du", help="how much room it takes, by backbone")
    words.add_parser("verify", help="read everything, name what is damaged").add_argument(
        "patterns", nargs="*", metavar="WHICH", help=which
    )
    prune = words.add_parser("prune", help="make room; extractions under way stay")
    prune.add_argument("--older-than", type=span, metavar="30d", help="not used for so long (h, d, w)")
    prune.add_argument("--max-size", type=n_bytes, metavar="50GB", help="then the longest unused, until it fits")
    prune.add_argument("--keep", nargs="+", default=[], metavar="WHICH", help=which)
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    export = words.add_parser("export", help="copy one entry into a folder that another machine can import")
    export.add_argument("pattern", metavar="WHICH", help=which)
    export.add_argument("target", type=Path, metavar="FOLDER")
    words.add_parser("import", help="take in an entry that export made, or all in a folder").add_argument(
        "source", type=Path, metavar="FOLDER"
    )
    return top


def ls(root: Path, arguments: argparse.Namespace) -> int:
    """Prints one line per pass, the one used last first."""
    found = listed(root)
    for r in upkeep.select(found, arguments.patterns):
        state = "" if r.state == "finished" else f"  {r.state}"
        tell(
            f"{r.entry[:12]}  {human(r.bytes):>9}  used {age(r.used)} by {r.by}  {r.backbone}  {r.rows}  "
            f"{r.n_rows} rows  {','.join(r.kinds)}{state}"
        )
    return 0


def listed(root: Path) -> list[upkeep.Record]:
    """All that is there; where nothing is, that is told."""
    found = upkeep.records(root)
    if not found:
        tell(f"{root} holds no features")
    return found


def du(root: Path, arguments: argparse.Namespace) -> int:
    """Prints bytes per backbone, and the sum."""
    found = upkeep.records(root)
    for name in sorted({r.backbone for r in found}):
        tell(f"{human(sum(r.bytes for r in found if r.backbone == name)):>9}  {name}")
    tell(f"{human(sum(r.bytes for r in found)):>9}  {root}")
    return 0


def verify(root: Path, arguments: argparse.Namespace) -> int:
    """Prints each damage; 1 if there is any."""
    n = 0
    if not listed(root):
        return 0
    for damage in upkeep.verify(root, arguments.patterns):
        n += 1
        tell(damage.text, error=True)
    tell(f"{root}: {n} damaged" if n else f"{root}: everything matches its checksums")
    return 1 if n else 0


def prune(root: Path, arguments: argparse.Namespace) -> int:
    """Prints what was removed."""
    if arguments.older_than is None and arguments.max_size is None:
        raise InputError("nothing says what may go: give --older-than or --max-size (see `probe cache prune --help`)")
    gone = upkeep.prune(
        root,
        older_than=arguments.older_than,
        max_size=arguments.max_size,
        keep=arguments.keep,
        dry_run=arguments.dry_run,
    )
    for r in gone:
        tell(f"{r.entry[:12]}  {human(r.bytes):>9}  used {age(r.used)}  {r.backbone}  {r.rows}  {','.join(r.kinds)}")
    tell(f"{'would remove' if arguments.dry_run else 'removed'} {human(sum(r.bytes for r in gone))}")
    return 0


def export(root: Path, arguments: argparse.Namespace) -> int:
    """Prints where the copy is."""
    tell(upkeep.export(root, arguments.pattern, arguments.target))
    return 0


def import_entry(root: Path, arguments: argparse.Namespace) -> int:
    """Prints where each entry is now."""
    for entry in upkeep.exported(arguments.source):
        tell(upkeep.import_entry(root, entry))
    return 0


COMMANDS = {"ls": ls, "du": du, "verify": verify, "prune": prune, "export": export, "import": import_entry}


def n_bytes(text: str) -> int:
    """`50GB`, `50G`, `1.5 GiB` or a plain number of bytes."""
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", text)
    if not match or (match[2].upper() or "B") not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it as 500MB, 50GB or 1TiB")
    return int(float(match[1]) * UNITS[match[2].upper() or "B"])


def span(text: str) -> timedelta:
    """`12h`, `30d` or `8w`."""
    match = re.fullmatch(r"([0-9.]+)([hdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write it as 12h, 30d or 8w")
    return timedelta(**{SPANS[match[2]]: float(match[1])})


def human(n: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def age(moment: datetime) -> str:
    """How long ago, in one unit."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
