"""Tables whose values have types: a JSON object per line, or parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probe.core.errors import InputError
from probe.core.texts import read_text
from probe.datasets.shared.tables import Table


def read_jsonl(file: Path, encoding: str | None = None, same_keys: bool = True) -> Table:
    """Reads one JSON object per line, all with the same keys; or with None where an object lacks one.

    Raises:
        InputError: No file, no rows, a line that is no object, or one with other keys than the first.
    """
    if not file.is_file():
        raise InputError(f"{file} is no file, expected one with a JSON object per line: give its path")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(file, encoding).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} of {file} is no JSON ({error}): write one object per line") from error
        if not isinstance(record, dict):
            raise InputError(f"line {number} of {file} is {type(record).__name__}, expected an object: mend the line")
        if same_keys and records and record.keys() != records[0].keys():
            odd = sorted(record.keys() ^ records[0].keys())
            raise InputError(
                f"line {number} of {file} differs from the first in {', '.join(odd[:5])}, expected the same keys in "
                "all lines: write null where there is nothing"
            )
        records.append(record)
    if not records:
        raise InputError(f"{file} has no rows, expected one JSON object per line: fill it")
    keys = dict.fromkeys(key for record in records for key in record)
    columns: dict[str, list[Any]] = {key: [record.get(key) for record in records] for key in keys}
    return Table(file, columns)


def read_parquet(file: Path) -> Table:
    """Reads a parquet file whole.

    Raises:
        InputError: It is none, or has no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as parquet ({' '.join(str(error).split())}): write it anew") from error
    if not table.num_rows:
        raise InputError(f"{file} has no rows, expected one per text: fill it")
    return Table(file, {name: table.column(name).to_pylist() for name in table.column_names})
