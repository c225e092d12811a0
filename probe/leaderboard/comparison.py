"""`--compare A B`: two rows of the table, column by column, on the same test rows and seeds."""

from __future__ import annotations

from dataclasses import dataclass

from probe.errors import InputError
from probe.leaderboard.export import WIDTH, clean, number
from probe.leaderboard.statistics import Difference, compare, holm
from probe.leaderboard.table import Table

BINARY = frozenset({"top1", "top5"})
METHOD = (
    "Difference: A minus B, paired by test row and seed, with its 95% interval; p accounts for new test rows and new "
    "seeds, and decides win, tie and loss at 5% after Holm's correction over the columns. McNemar (mid-p; with several "
    "seeds, rows as clusters) and permutation (9,999 swaps of A and B by row) take the trained heads as they are."
)


@dataclass(frozen=True)
class Comparison:
    """Two rows of a table.

    Attributes:
        a, b: Their names.
        columns: The columns that both have.
        differences: A minus B in each.
        p_holm: `p` of each difference after Holm's correction.
        outcomes: `win`, `tie` or `loss` of A in each column.
    """

    a: str
    b: str
    columns: list[str]
    differences: list[Difference]
    p_holm: list[float]
    outcomes: list[str]


def find_row(table: Table, name: str) -> str:
    """The row of this name, or the only one that all words of the name belong to.

    Raises:
        InputError: No row, or several.
    """
    rows = [str(row) for row in table.ranking["row"]]
    if name in rows:
        return name
    wanted = {part.split("=")[-1] for part in name.replace(",", " ").split()}
    found = [line for line in table.ranking.to_dict("records") if wanted <= {str(line[field]) for field in table.rows}]
    if wanted and len(found) == 1:
        return str(found[0]["row"])
    what = "no row" if not found else f"{len(found)} rows"
    raise InputError(
        f"{what} of the table answers to {name!r}: give the fields of one row, such as --compare {rows[0]!r} "
        f"{rows[-1]!r}; there are {', '.join(repr(row) for row in rows[:20])}"
    )


def compare_rows(table: Table, a: str, b: str) -> Comparison:
    """Compares two rows in every column that both have.

    Raises:
        InputError: A name that is no row, the same row twice, or no column or seed in common.
    """
    a, b = find_row(table, a), find_row(table, b)
    if a == b:
        raise InputError(f"both names stand for the row {a!r}: give two different rows to --compare")
    columns = [c for c in table.column_names if (a, c) in table.scores and (b, c) in table.scores]
    if not columns:
        raise InputError(f"{a!r} and {b!r} have no column in common: run both on one dataset")
    for column in columns:
        ours, theirs = table.scores[a, column].seeds, table.scores[b, column].seeds
        if not set(ours) & set(theirs):
            raise InputError(
                f"on {column}, {a!r} has the seeds {list(ours)} and {b!r} {list(theirs)}, a paired comparison needs a "
                "common one: run both with the same seeds"
            )
    found = [compare(table.scores[a, c], table.scores[b, c], binary=table.metric in BINARY) for c in columns]
    adjusted = holm([difference.p for difference in found])
    sign = 1 if table.higher_is_better else -1
    outcomes = [
        "tie" if p > 0.05 or d.value == 0 else "win" if sign * d.value > 0 else "loss"
        for d, p in zip(found, adjusted, strict=True)
    ]
    return Comparison(a, b, columns, found, adjusted, outcomes)


def text(comparison: Comparison, metric: str, width: int = WIDTH) -> str:
    """The comparison for the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE, header_style="")
    for i, name in enumerate(["", "A - B", "p", "p Holm", "McNemar", "permut.", "seeds", "rows", "A"]):
        drawn.add_column(name, justify="left" if i in (0, 8) else "right")
    lines = zip(comparison.columns, comparison.differences, comparison.p_holm, comparison.outcomes, strict=True)
    for column, d, p, outcome in lines:
        span = f"{number(d.value, metric)} [{number(d.low, metric)}, {number(d.high, metric)}]"
        tests = [_p(value) for value in (d.p, p, d.p_mcnemar, d.p_permutation)]
        drawn.add_row(Text(clean(column)), span, *tests, str(d.n_seeds), str(d.n_rows), outcome)
    count = {kind: comparison.outcomes.count(kind) for kind in ("win", "tie", "loss")}
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(f"{metric}: A = {clean(comparison.a)}, B = {clean(comparison.b)}")
        console.print(drawn)
        console.print(
            f"A wins {count['win']}, ties {count['tie']}, loses {count['loss']} of {len(comparison.columns)}."
        )
        console.print(METHOD)
    return capture.get()


def _p(value: float) -> str:
    if value != value:
        return "-"
    return "<.0001" if value < 1e-4 else f"{value:.4f}"
