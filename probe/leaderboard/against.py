"""`--against head=linear`: every row against the one that differs from it in this field alone."""

from __future__ import annotations

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.export import title
from probe.leaderboard.pairs import difference_tested
from probe.leaderboard.screen import Layout, tables
from probe.leaderboard.statistics import holm
from probe.leaderboard.table import Table

NOTES = (
    "Differences, paired by test row and seed, with their 95% intervals. Beats, below or like: told at 5% by the test "
    "that accounts for new test rows and new seeds, after Holm's correction over all differences shown."
)


def text(table: Table, against: str, width: int | None = None) -> str:
    """For the terminal: a line for each row, with its lead in each column and how often it beats the other.

    Args:
        table: Of any metric.
        against: A field of the rows and its value, `head=linear`.
        width: Of the terminal.

    Raises:
        InputError: No field of the rows, or no row that has another beside it with this value.
    """
    import pandas as pd

    room, found = width or columns(), _leads(table, *_field(table, against))
    adjusted = holm([p for _, _, p in found.values()])
    sign, lines = 1 if table.higher_is_better else -1, dict[str, dict[str, str]]()
    wins: dict[str, list[bool]] = {}
    for ((row, column), (lead, half, _)), p in zip(found.items(), adjusted, strict=True):
        word = "like" if p > 0.05 or lead == 0 else "beats" if sign * lead > 0 else "below"
        value, low, high = (table.measure.spelled(x) for x in (lead, lead - half, lead + half))
        lines.setdefault(row, {})[column] = f"{word}: {value} [{low}, {high}]"
        wins.setdefault(row, []).append(word == "beats")
    told = pd.DataFrame(
        [
            [one_line(row), f"{sum(wins[row])} of {len(wins[row])}", *(cells.get(c, "") for c in table.column_names)]
            for row, cells in lines.items()
        ],
        columns=["", "beats it on", *map(one_line, table.column_names)],
    )
    return drawn(f"{title(table)}, against {one_line(against)}", *tables([Layout(told, 2)], room), NOTES, width=room)


def _field(table: Table, against: str) -> tuple[str, str]:
    field, _, value = against.partition("=")
    if field not in table.rows or not value:
        first = table.ranking.iloc[0]
        raise InputError(
            f"--against is {against!r}, expected a field of the rows and its value, such as "
            f"--against {table.rows[-1]}={first[table.rows[-1]]}: rows are told by {', '.join(table.rows)}"
        )
    return field, value


def _leads(table: Table, field: str, value: str) -> dict[tuple[str, str], tuple[float, float, float]]:
    """By row and column the lead over the other row, half the width of its interval, and its p."""
    others = [name for name in table.rows if name != field]
    lines = table.ranking.to_dict("records")
    held = {tuple(line[name] for name in others): str(line["row"]) for line in lines if str(line[field]) == value}
    found = {}
    for line in lines:
        row, other = str(line["row"]), held.get(tuple(line[name] for name in others), "")
        for column in table.column_names if other not in ("", row) else ():
            a, b = table.scores.get((row, column)), table.scores.get((other, column))
            if a is not None and b is not None and set(a.seeds) & set(b.seeds):
                paired, half, p = difference_tested(a, b, table.column(column))
                found[row, column] = (paired.value, half, p)
    if not found:
        raise InputError(
            f"no row has one with {field}={value} beside it, equal in {', '.join(others) or 'all else'} and on the "
            f"same column and seeds: choose among {', '.join(dict.fromkeys(str(line[field]) for line in lines))}"
        )
    return found
