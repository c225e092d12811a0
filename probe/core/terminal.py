"""What the command says: the one place that writes to standard output and standard error.

A reader that has gone (`probe leaderboard runs | head -1`) is no failure: the work goes on, its words go nowhere.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

from probe.core.escaping import one_line

if TYPE_CHECKING:
    from rich.console import Console


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


def epochs(n: int, delay: float = 3.0) -> Iterable[int]:
    """0 to n - 1; a loop that lasts is shown on a terminal, with the time that it still takes.

    Nothing is shown by a process among others, whose bars would cover each other.

    Args:
        n: Epochs.
        delay: Seconds after which a loop lasts.
    """
    if sys.stderr is None or not sys.stderr.isatty() or multiprocessing.parent_process() is not None:
        return range(n)
    found: Iterable[int] = bars()(range(n), desc="fit", unit=" epochs", delay=delay, leave=False, file=sys.stderr)
    return found


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
