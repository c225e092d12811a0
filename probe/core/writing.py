"""Files outside the feature store, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from probe.core.errors import FileError, ProbeError
from probe.core.escaping import one_line

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


def write_file(path: str | Path, content: str | bytes | Callable[[Path], Any]) -> None:
    """Writes a file beside its place and moves it there: others read the old one or the new one, never a part.

    Any number of processes may write one file at once; the last one stays. A link is followed. What is no regular
    file (a pipe, `/dev/stdout`) is written into.

    Args:
        content: Text (UTF-8), bytes, or a function that writes to the path that it is given, which has the suffix of
            `path`.

    Raises:
        FileError: The disk is full or read-only, or the path cannot be a file; nothing is left behind.
    """
    path = Path(path)
    with writing(path):
        if path.exists() and not path.is_file():  # a folder is told of by opening it
            _fill(path, content)
            return
        place = Path(os.path.realpath(path))
        part = place.with_name(f".{uuid.uuid4().hex}.part{place.suffix}")
        with folder_for(place):
            try:
                _fill(part, content)
                with open(part, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(part, place)
            finally:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)


def _fill(path: Path, content: str | bytes | Callable[[Path], Any]) -> None:
    if callable(content):
        content(path)
        return
    with open(path, "wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """Makes the folders above a path; those that were made are removed again where the block fails."""
    new = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # one that others have put something into stays
            for folder in new:
                folder.rmdir()
        raise


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns what the operating system says inside the block into one sentence about `path`.

    Raises:
        FileError: Of any `OSError` that is no sentence yet.
    """
    try:
        yield
    except ProbeError:
        raise
    except OSError as error:
        raise FileError(refusal(path, error)) from error


def sentence(error: BaseException) -> str | None:
    """One sentence for what the user can mend: an error of this package, or a disk that is full or closed to them."""
    if isinstance(error, ProbeError):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in FULL | FORBIDDEN:
        return refusal(error.filename or "a file", error)
    return None


def refusal(path: str | Path, error: OSError) -> str:
    """The sentence for a place that cannot be written."""
    if error.errno in FULL:
        remedy = "make room there, or name a place on another disk"
    elif error.errno in FORBIDDEN:
        remedy = "name a place where you may write"
    else:
        remedy = "name another place"
    return f"{path} cannot be written ({error.strerror or error}): {remedy}"
