"""Whether run folders can be written where they are to stand, asked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from probe.core.errors import InputError

LONGEST_NAME = 255
"""Bytes of one name, on every common file system."""


def check_place(folder: Path) -> None:
    """Refuses a folder that could not be made, and makes none."""
    for name in folder.parts:
        if len(os.fsencode(name)) > LONGEST_NAME or "\0" in name:
            raise InputError(
                f"the folder of the runs would be called {name[:40]!r}… ({len(os.fsencode(name))} bytes), expected at "
                f"most {LONGEST_NAME}: give a shorter name=…"
            )
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if there == folder.absolute():  # the run itself, or what is left of one
        there = there.parent
    if not there.is_dir():
        raise InputError(f"{there} is a file, and runs are to stand below it: move it, or set runs=<another folder>")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there} cannot be written to, and runs are to stand below it: set runs=<another folder>")
