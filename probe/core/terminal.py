"""What the command says: the one place that writes to standard output and standard error.

A reader that has gone (`probe leaderboard runs | head -1`) is no failure: the work goes on, its words go nowhere.
"""

from __future__ import annotations

import contextlib
import io
import math
import multiprocessing
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO, cast

from probe.core.escaping import one_line

if TYPE_CHECKING:
    from rich.console import Console

PARTS = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
"""A bar of what has no unit."""


def tell(*lines: Any, error: bool = False) -> None:
    """Prints each argument as one line, whatever is in it.

    Args:
        error: On standard error instead.
    """
    write("".join(f"{one_line(line)}\n" for line in lines), sys.stderr if error else sys.stdout)


def show(*parts: Any) -> None:
    """Prints renderables of rich, with the colours and the width of this terminal."""
    from rich.text import Text

    screen = console()
    with screen.capture() as capture:
        for part in parts:
            screen.print(part, soft_wrap=isinstance(part, str | Text))
    write(capture.get(), sys.stdout)


def console(**options: Any) -> Console:
    """A console of rich that finds no markup, emoji or numbers in text."""
    from rich.console import Console

    # Texts in a notebook too: what is captured there would leave an empty output behind.
    return Console(markup=False, emoji=False, highlight=False, force_jupyter=False, **options)


def columns() -> int:
    """Characters on a line of the terminal, or as `COLUMNS` says; where there is no terminal, 100."""
    return shutil.get_terminal_size((100, 24)).columns


def bars() -> Any:
    """tqdm, as widgets where a notebook can show them; what it says where one cannot is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm


_silent = ContextVar("silent", default=False)
_shown = threading.Lock()


@contextlib.contextmanager
def silent(quiet: bool = True) -> Iterator[None]:
    """Work within shows nothing of how far it is, if that is wanted."""
    token = _silent.set(quiet or _silent.get())
    try:
        yield
    finally:
        _silent.reset(token)


class Lasting:
    """How far work is that may last; shown by a bar, or not at all."""

    def __init__(self, bar: Any = None):
        self._bar = bar

    def add(self, more: float) -> None:
        """So much more is done."""
        if self._bar is not None:
            self._bar.update(more)

    def reach(self, done: float) -> None:
        """So much is done at least."""
        if self._bar is not None and done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def nearing(self, done: float, share: float = 1.0) -> Callable[[float, float], None]:
        """Of a step that ends where a gap has shrunk to what is allowed: to be told both, at each of its rounds.

        Args:
            done: What is done before the step.
            share: What it adds.
        """
        widest = 0.0

        def tell(gap: float, allowed: float) -> None:
            nonlocal widest
            if self._bar is None or not (gap > allowed > 0):
                return
            widest = max(widest, gap)
            if widest > gap:
                self.reach(done + share * math.log(widest / gap) / math.log(widest / allowed))

        return tell


@contextlib.contextmanager
def lasting(total: float, unit: str = "", delay: float = 3.0) -> Iterator[Lasting]:
    """Work that lasts is shown on a terminal, with the time that it still takes: that of its parts so far.

    Nothing is shown within `silent`, within work that is shown already, and by a process among others, whose bars
    would cover each other.

    Args:
        total: How much there is to do.
        unit: Of what, such as ` epochs`; where parts of one count, none.
        delay: Seconds after which work lasts.
    """
    hidden = _silent.get() or sys.stderr is None or not sys.stderr.isatty()
    if hidden or multiprocessing.parent_process() is not None or not _shown.acquire(blocking=False):
        yield Lasting()
        return
    how: dict[str, Any] = {"desc": "fit", "delay": delay, "leave": False, "file": sys.stderr}
    how |= {"unit": unit} if unit else {"bar_format": PARTS}
    try:
        with bars()(total=total, smoothing=0, miniters=0, **how) as bar:
            yield Lasting(bar)
    finally:
        _shown.release()


def epochs(n: int, delay: float = 3.0) -> Iterator[int]:
    """0 to n - 1; a loop that lasts is shown."""
    with lasting(n, " epochs", delay) as shown:
        for epoch in range(n):
            yield epoch
            shown.add(1)


def passing(chunks: Iterable[slice], n: int, unit: str = " rows") -> Iterator[slice]:
    """Slices of n rows, or of what else, one after the other; a pass that lasts is shown."""
    with lasting(n, unit) as shown:
        for rows in chunks:
            yield rows
            shown.add(rows.stop - rows.start)


def drawn(*parts: Any, width: int) -> str:
    """Renderables of rich as plain text of at most `width` characters per line."""
    plain = console(width=width, color_system=None, force_terminal=False)
    with plain.capture() as capture:
        for part in parts:
            plain.print(part)
    return capture.get()


def write(text: str, stream: TextIO | None) -> None:
    """Writes and flushes; characters that the stream cannot encode become question marks.

    A stream that cannot be written to any more leads nowhere from then on; `last_words` tells why.
    """
    if stream is None:  # closed by whoever started the command
        return
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _faults.append(error)
        # With what its buffer still holds: Python would complain of it at the end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


_faults: list[OSError] = []


class _Forgiving:
    """A stream whose reader may go, for those who print without this module: argparse, Hydra, a user's own code."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        write(text, self._stream)
        return len(text)

    def flush(self) -> None:
        write("", self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """Around a whole command: where its output could not be written, a sentence says so, and the exit code is 1."""
    plain = sys.stdout
    try:
        sys.stdout = io.StringIO() if plain is None else cast(TextIO, _Forgiving(plain))
        yield
    finally:
        write("", plain)
        sys.stdout = plain
        if _faults:
            reason = _faults[0].strerror
            tell(f"probe: the output cannot be written ({reason}): send it to where there is room", error=True)
            sys.exit(1)
