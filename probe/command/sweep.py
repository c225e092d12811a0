"""What a sweep keeps while it runs: one note per ended job, from which progress and the final report are read.

The notes lie beside the run folders, since jobs may run in other processes than the one that launched them, in a folder
of their own for each launch: several sweeps may share the run folders.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probe.command import remaining
from probe.core.errors import ProbeError
from probe.core.escaping import one_line
from probe.core.terminal import show, tell
from probe.core.words import leaked
from probe.core.writing import write_file

NOTES = ".sweep"
SWEEP = "sweep.json"
LOCK = "lock"
ENDED = "ended"
UNUSED_SECONDS = 7 * 86400.0
"""Notes of a launch that died may still be written by its jobs on other machines: they stay for so long."""
STATUSES = ("done", "there", "unfit", "failed")


@dataclass(frozen=True)
class Outcome:
    """How one job of a sweep, or the only run, ended: `done`, `there` (was complete), `unfit` or `failed`.

    Beside its folder may lie those of the same fit on shifted test rows.
    """

    job: str
    status: str
    folder: str | None = None
    error: str | None = None
    seconds: float = 0.0
    beside: list[str] = field(default_factory=list)


@dataclass
class Launch:
    """A sweep under way: the folder of its notes, and the lock that says that it lives."""

    notes: Path
    lock: Any

    def end(self) -> None:
        """Says that no job writes notes any more: the next launch may remove them."""
        with suppress(OSError):
            (self.notes / ENDED).touch()
        self.lock.release()


def start(folder: Path, n_jobs: int | None) -> Launch:
    """Makes the folder of notes of one launch below `folder`, and removes those of launches that nobody uses."""
    from filelock import FileLock, Timeout

    clean(folder)
    notes = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    # Written first: it makes the folders, and tells of a disk that takes nothing.
    write_file(notes / SWEEP, json.dumps({"n_jobs": n_jobs, "started": time.time()}))
    lock = FileLock(notes / LOCK)
    with suppress(OSError, NotImplementedError, Timeout):
        lock.acquire(timeout=0)
    return Launch(notes, lock)


def clean(folder: Path) -> None:
    """Removes the notes of launches that have ended, and of those that died long ago."""
    from filelock import FileLock, Timeout

    for notes in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError, NotImplementedError, Timeout):
            if (notes / ENDED).exists() or _idle_seconds(notes) > UNUSED_SECONDS:
                with FileLock(notes / LOCK, timeout=0):
                    shutil.rmtree(notes, ignore_errors=True)


def _idle_seconds(notes: Path) -> float:
    return time.time() - max(path.stat().st_mtime for path in (notes, *notes.iterdir()))


def plan(launch: Launch, jobs: Sequence[Sequence[str]]) -> None:
    """Says which jobs will come: more than the command line names where controls or single settings add some."""
    told = json.loads((launch.notes / SWEEP).read_text())
    write_file(launch.notes / SWEEP, json.dumps({**told, "n_jobs": len(jobs), "jobs": [list(job) for job in jobs]}))


def begin(notes: Path, number: int) -> None:
    """Says that a job is running."""
    (notes / f"{number:06d}.running").touch()


def note(notes: Path, number: int, outcome: Outcome) -> None:
    """Leaves the outcome where `report` finds it: jobs may run in other processes than the launcher."""
    running = notes / f"{number:06d}.running"
    write_file(running.with_suffix(f".{outcome.status}"), json.dumps(vars(outcome)))
    running.unlink(missing_ok=True)


def note_refused(launch: Launch, outcome: Outcome) -> None:
    """Leaves the outcome of a job that was never started, and so has no number."""
    write_file(launch.notes / f"refused-{uuid.uuid4().hex}.{outcome.status}", json.dumps(vars(outcome)))


def progress(notes: Path) -> str:
    """`[ 3/18, 2 running, 1 failed, 40 s left]`, from the notes of all processes."""
    sweep = json.loads((notes / SWEEP).read_text())
    counts = Counter(path.suffix.removeprefix(".") for path in notes.iterdir())
    n_ended, n = sum(counts[status] for status in STATUSES), sweep["n_jobs"]
    told = "".join(f", {counts[status]} {status}" for status in ("running", "failed") if counts[status])
    if n is None:
        return f"[{n_ended}{told}]"
    seconds = remaining.left(sweep["jobs"], _took(notes), counts["running"]) if "jobs" in sweep else None
    left = "" if seconds is None or n_ended == n else f", {duration(seconds)} left"
    return f"[{n_ended:{len(str(n))}}/{n}{told}{left}]"


def _took(notes: Path) -> dict[frozenset[str], float]:
    """What the last jobs that ended were, and how long they took."""
    paths = sorted(path for path in notes.iterdir() if path.suffix.removeprefix(".") in STATUSES)
    ended = [json.loads(path.read_text()) for path in paths[-remaining.LOOKED_AT :]]
    return {frozenset(outcome["job"].split(" ")): outcome.get("seconds", 0.0) for outcome in ended}


def duration(seconds: float) -> str:
    """As people say it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def report(notes: Path, tracker: Any) -> int:
    """Prints the ranked table of a finished sweep and what failed, hands the table on; returns the exit code."""
    paths = sorted(path for path in notes.iterdir() if path.suffix.removeprefix(".") in STATUSES)
    ended = [Outcome(**json.loads(path.read_text())) for path in paths]
    folders = sorted({folder for one in ended if one.folder for folder in (one.folder, *one.beside)})
    has_table = not folders or tell_table(notes.parents[1], [Path(folder) for folder in folders], tracker)
    failed = [outcome for outcome in ended if outcome.status == "failed"]
    n_silent = max(0, (json.loads((notes / SWEEP).read_text())["n_jobs"] or 0) - len(ended))
    counts = {status: sum(o.status == status for o in ended) for status in STATUSES} | {"of unknown outcome": n_silent}
    tell(f"{notes.parents[1]}: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n))
    for outcome in failed:
        tell(f"failed: {outcome.job}", f"  {last_line(outcome.error)}", error=True)
    return 1 if failed or n_silent or not has_table else 0


def tell_table(folder: Path, runs: list[Path], tracker: Any) -> bool:
    """Prints and writes the ranked table, hands it to the tracker; False, and a sentence, where that cannot be done."""
    import pandas as pd

    from probe.leaderboard.command import write_sweep_table

    try:
        tell(*write_sweep_table(folder, runs).splitlines())
    except ProbeError as error:
        tell(f"probe: {error}", error=True)
        return False
    tell(*doubtful_choices(runs))
    if hasattr(tracker, "log_sweep"):
        tracker.log_sweep(pd.read_csv(folder / "leaderboard.csv"), folder)
    return True


def doubtful_choices(folders: Sequence[Path]) -> list[str]:
    """How often each head chose an end of what it searched, or among candidates that scored the same."""
    from probe.results.reader import read_result

    counts: Counter[tuple[str, str]] = Counter()
    n_chosen: Counter[str] = Counter()
    for folder in folders:
        result = read_result(folder) or {}
        if selection := result.get("selection"):
            head = result["labels"]["head"]
            n_chosen[head] += 1
            remarks = selection.get("remarks", [])
            counts.update((head, re.sub(r"^\d+ of (\d+) candidates", r"several of \1 candidates", r)) for r in remarks)
    return [f"{head}: {remark}, in {n} of {n_chosen[head]} runs" for (head, remark), n in sorted(counts.items())]


def last_line(text: str | None) -> str:
    return (text or "").strip().rpartition("\n")[2]


def show_run(folder: Path, *, was_there: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from probe.results.reader import read_result

    result = read_result(folder)
    labels = result["labels"]
    title = f"{labels['head']} on {labels['backbone']} x {labels['dataset']}, seed {result['seed']}"
    table = Table(title=one_line(title))
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, m in result["metrics"].items():
        table.add_row(one_line(name), f"{m['value']:.4f}", f"{m['low']:.4f} to {m['high']:.4f}")
    show(table)
    if result["selection"]:
        tell(f"chosen on {result['selection']['on']}: {result['selection']['chosen']}")
        tell(*([result["selection"]["halving"]["told"]] if "halving" in result["selection"] else []))
        for remark in result["selection"].get("remarks", []):
            tell(f"doubtful: {remark}")
    for name, metrics in result.get("beside", {}).items():
        values = ", ".join(f"{m} {v['value']:.4f} ({v['low']:.4f} to {v['high']:.4f})" for m, v in metrics.items())
        tell(f"beside it on the same rows: {name} {values}")
    if weights := result.get("layers", {}).get("weights"):
        parts = zip(result["layers"]["of"], weights, strict=True)
        tell("weights of the layers: " + ", ".join(f"{name} {weight:.3f}" for name, weight in parts))
    if "grid" in result:
        from probe.results.grid import LATEX, PICTURE, TABLE, Grid

        told = [f"wrote {folder / name}" for name in (PICTURE, TABLE, LATEX)]
        tell(*Grid.of(result["grid"]).text().splitlines(), *told)
    if n_leaked := result.get("leakage", {}).get("test", 0):
        tell(f"leakage: {leaked(n_leaked, labels['dataset'])}")
    for phrase in result.get("left_out", ()):
        tell(f"not among the rows of {phrase}")
    for note in result.get("notes", ()):
        tell(f"note: {note}")
    if was_there:
        tell("complete already, not run again (force=true runs it anew)")
    show(Text(one_line(folder), style="bold"))
