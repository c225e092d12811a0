"""The default tracker: the run folder is the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class NoTracker:
    """Logs nothing."""

    def log(self, result: dict[str, Any], folder: Path) -> None:
        """Called for each run that is asked for, with its record and its folder, also where it was complete already."""
