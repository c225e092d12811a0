"""Measures what a frozen backbone already knows: `run`, `sweep`, `table`, `ensemble`, `extract`.

`probe.Watch` measures one that still trains.
"""

from __future__ import annotations

import importlib

from probe.core import moved
from probe.core.version import __version__ as __version__

TYPE_CHECKING = False  # as `typing` has it, whose import would be the dearest of all here
if TYPE_CHECKING:
    from typing import Any

    from probe.command.python import ensemble, extract, run, sweep, table
    from probe.command.watch import Watch

__all__ = ["Watch", "ensemble", "extract", "run", "sweep", "table"]

moved.keep()


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for (PEP 562): `import probe` alone costs milliseconds."""
    if name not in __all__:
        raise AttributeError(f"module 'probe' has no attribute {name!r}")
    module = "probe.command.watch" if name == "Watch" else "probe.command.python"
    found = globals()[name] = getattr(importlib.import_module(module), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
