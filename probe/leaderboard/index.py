"""Keeps what was read of run folders in one hidden file per folder, and trusts it only where nothing changed."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.files import Stamp
from probe.core.hashing import hash_bytes
from probe.core.writing import write_file
from probe.leaderboard.reading import read_runs
from probe.leaderboard.records import Problem, Read, Records
from probe.results.reader import failure, walk
from probe.results.schema import PREDICTIONS, RESULT

if TYPE_CHECKING:
    import pandas as pd

INDEX = ".leaderboard-index.parquet"
VERSION = 8
STAMPS = ("stamp.result", "stamp.predictions")
Stamps = tuple[str, str]


def stamp(path: str) -> str:
    """Changes whenever the file does, see `probe.core.files`; a cell of the index."""
    of = os.stat(path)
    return f"{of.st_dev} {of.st_ino} {of.st_size} {of.st_mtime_ns} {of.st_ctime_ns}"  # as `Stamp`, and twice as fast


def _stamps(folder: str) -> Stamps:
    try:
        return stamp(f"{folder}/{RESULT}"), stamp(f"{folder}/{PREDICTIONS}")
    except OSError:
        return "", ""


def nothing_kept() -> pd.DataFrame:
    """What an index that is not there holds."""
    import pandas as pd

    return pd.DataFrame(columns=["path", *STAMPS])


def _load(path: Path) -> tuple[pd.DataFrame, str]:
    """The kept rows and the digest of what was read; none where the file is missing, damaged or of another version."""
    import pandas as pd

    try:
        content = path.read_bytes()
        frame = pd.read_parquet(io.BytesIO(content))
    except Exception:  # whatever a damaged file raises, the answer is to read the runs themselves
        return nothing_kept(), ""
    if {"path", "index_version", *STAMPS} - set(frame.columns) or not (frame["index_version"] == VERSION).all():
        return nothing_kept(), ""
    return frame.drop(columns="index_version"), hash_bytes(content)


def _save(frame: pd.DataFrame, path: Path, at_rest: NDArray[np.bool_]) -> str:
    """Writes rows whose files had come to rest; the digest of what was written, "" where these are not all of them.

    A folder that cannot be written to gets no index.
    """
    if not at_rest.any():
        return ""
    rows = (frame if at_rest.all() else frame[at_rest]).assign(index_version=VERSION)
    # Uncompressed it is half as large again, and written in half the time.
    content = rows.to_parquet(None, index=False, compression=None)
    with suppress(OSError):
        write_file(path, content)
        return hash_bytes(content) if at_rest.all() else ""
    return ""


def _at_rest(record: Mapping[str, Any], started_ns: int) -> bool:
    return all(record[name] and Stamp(*map(int, record[name].split())).settled(started_ns) for name in STAMPS)


def _read_folder(root: Path) -> tuple[pd.DataFrame, list[Problem], str]:
    """All runs under one folder: from its index where their files are unchanged, else from the files.

    The last is the digest of the index that holds these runs and no others, by what was read or written of it: another
    process may put its own there in between.
    """
    import pandas as pd

    started_ns, below = time.time_ns(), f"{root}/"
    kept, digest = _load(root / INDEX)
    known = {path: i for i, path in enumerate(kept["path"].tolist())}
    of_result, of_predictions = (kept[name].tolist() for name in STAMPS)
    unchanged: list[int] = []
    fresh: list[dict[str, Any]] = []
    problems: list[Problem] = []

    def is_unchanged(relative: str) -> bool:
        if (i := known.get(relative)) is None or _stamps(below + relative) != (of_result[i], of_predictions[i]):
            return False
        unchanged.append(i)
        return True

    there: list[tuple[str, Stamps]] = []
    for relative, names in walk(str(root), is_unchanged):
        folder = below + relative
        if RESULT in names:
            there.append((relative, _stamps(folder)))
        else:
            problems.append(Problem(os.path.join(root, relative), failure(folder, names)))
    for (relative, stamps), found in zip(there, read_runs([below + path for path, _ in there]), strict=True):
        if isinstance(found, InputError):
            problems.append(Problem(os.path.join(root, relative), str(found)))
        else:
            fresh.append(found | {"path": relative} | dict(zip(STAMPS, stamps, strict=True)))
    frame = kept if len(unchanged) == len(kept) else kept.iloc[sorted(unchanged)]
    at_rest = np.ones(len(frame), bool)
    if fresh:
        frame = pd.concat([frame, pd.DataFrame(fresh)], ignore_index=True) if len(frame) else pd.DataFrame(fresh)
        at_rest = np.append(at_rest, [_at_rest(record, started_ns) for record in fresh])
        keys = list(zip(frame["name"].tolist(), frame["digest"].tolist(), strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)  # nearly in order: those of the index are
        frame, at_rest = frame.take(order), at_rest[order]
    frame = frame.reset_index(drop=True)
    if fresh or len(unchanged) < len(kept):
        digest = _save(frame, root / INDEX, at_rest) if len(frame) else ""
    return frame, problems, digest


def _read_single(folders: Sequence[Path]) -> tuple[pd.DataFrame, list[Problem], str]:
    """Runs whose folders were given themselves, as a sweep does; no index stands for them."""
    import pandas as pd

    found, problems = [], []
    for folder, run in zip(folders, read_runs(folders), strict=True):
        if isinstance(run, InputError):
            problems.append(Problem(str(folder), str(run)))
        else:
            found.append(run | {"path": os.path.normpath(folder)} | dict.fromkeys(STAMPS, ""))
    return pd.DataFrame(found), problems, ""


def read_folders(folders: Iterable[str | Path]) -> Records:
    """Reads every run under the folders, each run once.

    Raises:
        InputError: A folder does not exist, or none of them holds a complete run.
    """
    import pandas as pd

    roots = [Path(folder) for folder in folders]
    absent = [str(root) for root in roots if not root.is_dir()]
    if absent:
        raise InputError(f"there is no folder {', '.join(absent)}: give folders that hold runs, such as runs")
    frames, problems, digests = [], [], []
    single = [root for root in roots if (root / RESULT).exists()]
    for root, (frame, wrong, told) in [
        (Path(), _read_single(single)),
        *((root, _read_folder(root)) for root in roots if root not in set(single)),
    ]:
        digests.append(told)
        problems += wrong
        if len(frame):
            paths = frame["path"].tolist()
            within, real = os.path.join(os.path.normpath(root), "").removeprefix("./"), os.path.realpath(root)
            frame = frame.assign(folder=[within + path for path in paths])
            # Of one folder every run has a place of its own.
            if len(roots) > 1:
                frame = frame.assign(real=[os.path.join(real, path) for path in paths])
            frames.append(frame)
    if not frames:
        listed = "; ".join(f"{problem.folder}: {problem.reason}" for problem in problems[:10])
        raise InputError(
            f"{', '.join(map(str, roots[:3]))}{', …' * (len(roots) > 3)} holds no complete run: first run, for "
            f"example, probe backbone=tiny dataset=digits head=linear{' (' * bool(listed)}{listed}{')' * bool(listed)}"
        )
    frame = (frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)).drop(columns=["path", *STAMPS])
    if "real" in frame:
        frame = frame.loc[~frame["real"].duplicated()].drop(columns="real")
    copied = frame["digest"].duplicated()
    once = frame.loc[~copied] if copied.any() else frame
    if not once["name"].is_monotonic_increasing or once["name"].duplicated().any():
        once = once.sort_values(["name", "digest"])
    once = once.reset_index(drop=True)
    copies = len(frame) - len(once)
    notes = [f"{copies} copies of runs were counted once"] if copies else []
    read = Read(roots[0], digests[-1], once) if len(roots) == 1 and digests[-1] else None
    return Records(once, sorted(set(problems), key=lambda problem: problem.folder), notes, read)
