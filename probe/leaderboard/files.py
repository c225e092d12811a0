"""The table as files, one function for each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probe.core.writing import write_file
from probe.leaderboard import export as texts
from probe.leaderboard.latex import latex
from probe.leaderboard.table import Table
from probe.results.writer import slug


def export(table: Table, kind: str, path: Path, **tex: Any) -> None:
    """Writes the table as `md`, `csv`, `json`, `tex` or `parquet`; `tex` is given to `latex`."""
    if kind == "parquet":
        write_file(path, lambda part: texts.long(table).to_parquet(part, index=False))
    elif kind == "tex":
        write_file(path, latex(table, label=slug(path.stem), **tex))
    else:
        write_file(path, {"md": texts.markdown, "csv": texts.csv, "json": texts.as_json}[kind](table))
