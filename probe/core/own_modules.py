"""Modules of the user's own: found in the working folder, after everything else, and only when they are asked for.

What lies in a working folder may come from anywhere, as a folder of runs does: unless a configuration names a module
that is installed nowhere, nothing of it is ever imported.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def leave_working_folder() -> None:
    """Takes the working folder off the search path, where `python -m` puts it first."""
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]


def search_working_folder() -> None:
    """Adds the working folder to the end of the search path."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def find(name: str) -> None:
    """Makes a dotted name importable that begins with a module of the working folder and is installed nowhere."""
    top = name.partition(".")[0]
    if top.isidentifier() and top not in sys.modules and not importlib.util.find_spec(top) and _here(top):
        search_working_folder()


def shadowed(name: str) -> str:
    """A remark where a module of the working folder gives way to an installed one of the same name; else nothing."""
    top = name.partition(".")[0]
    there, here = getattr(sys.modules.get(top), "__file__", None), _here(top)
    if not there or not here or os.path.realpath(there) == os.path.realpath(here):
        return ""
    return f"; {os.path.relpath(here)} is another one, which the installed {top} hides: give it another name"


def _here(top: str) -> str | None:
    """The file of a module in the working folder."""
    spec = PathFinder.find_spec(top, [os.getcwd()]) if top.isidentifier() else None
    return None if spec is None else spec.origin or top
