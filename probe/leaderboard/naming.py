"""`--label OLD=NEW`: what backbones, heads, datasets, fields and metrics are called in all that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from probe.core.errors import InputError
from probe.leaderboard.records import Records
from probe.leaderboard.select import add_fields, text
from probe.leaderboard.table import Table

LABELS = ("backbone", "head", "dataset", "protocol")


def read(words: Sequence[str]) -> dict[str, str]:
    """The names as given.

    Raises:
        InputError: A word has no `=`, or nothing before or behind it.
    """
    found = {}
    for word in words:
        old, equals, new = word.partition("=")
        if not (equals and old.strip() and new.strip()):
            raise InputError(f"label {word!r} has no name before or behind an '=': write --label old=new")
        found[old.strip()] = new.strip()
    return found


def renamed(records: Records, labels: Mapping[str, str], fields: Sequence[str]) -> Records:
    """The runs with other values in some fields.

    Raises:
        InputError: A new name is that of another value.
    """
    if not labels:
        return records
    frame = add_fields(records.frame, fields)
    for name in dict.fromkeys([*LABELS, *fields]):
        there = set(map(text, frame[name]))
        if twice := [f"{old}={new}" for old, new in labels.items() if {old, new} <= there and new not in labels]:
            raise InputError(f"--label {twice[0]} gives {name} a name that another one has: choose another name")
        frame = frame.assign(**{name: [labels.get(text(value), value) for value in frame[name]]})
    return replace(records, frame=frame)


def named(table: Table, labels: Mapping[str, str], metrics: Sequence[str] = ()) -> Table:
    """The table of renamed runs with other names of its fields and of metrics.

    Args:
        table: Of `renamed` runs.
        labels: Old name -> new name.
        metrics: That the runs have beside the one of the table.

    Raises:
        InputError: Nothing in the table has an old name.
    """
    fields = [*table.rows, *table.columns, *dict.fromkeys([table.metric, *metrics])]
    values = {text(value) for field in (*table.rows, *table.columns) for value in table.cells[field]}
    unused = [old for old, new in labels.items() if old not in fields and new not in values]
    if unused:
        raise InputError(
            f"nothing in the table is called {', '.join(map(repr, unused))}: --label takes a value of its rows and "
            f"columns, or one of {', '.join(fields)}"
        )
    return replace(table, labels={old: new for old, new in labels.items() if old in fields})
