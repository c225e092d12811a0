"""`--compare A B`: two rows of the table, column by column, on the same test rows and seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probe.core.errors import InputError
from probe.core.escaping import markdown, one_line
from probe.core.terminal import columns, drawn
from probe.core.writing import write_file
from probe.leaderboard import latex
from probe.leaderboard.export import csv_text, markdown_lines, title
from probe.leaderboard.pairs import Difference, compare
from probe.leaderboard.screen import lessened, tables
from probe.leaderboard.statistics import holm
from probe.leaderboard.table import Table
from probe.metrics.shared.metric import Metric
from probe.results.writer import slug

if TYPE_CHECKING:
    import pandas as pd

N_LEFT = 2
METHOD = (
    "Difference: A minus B, paired by test row and seed, with its 95% interval; p accounts for new test rows and new "
    "seeds, and decides win, tie and loss at 5% after Holm's correction over the columns. McNemar (mid-p; with several "
    "seeds, rows as clusters) and permutation (9,999 swaps of A and B by row) take the trained heads as they are."
)


@dataclass(frozen=True)
class Comparison:
    """Two rows of a table.

    Attributes:
        metric: What is compared.
        measure: What it is.
        title: What the numbers are.
        a, b: Their names.
        columns: The columns that both have.
        differences: A minus B in each.
        p_holm: `p` of each difference after Holm's correction.
        outcomes: `win`, `tie` or `loss` of A in each column.
    """

    metric: str
    measure: Metric
    title: str
    a: str
    b: str
    columns: list[str]
    differences: list[Difference]
    p_holm: list[float]
    outcomes: list[str]

    @property
    def frame(self) -> pd.DataFrame:
        """One line per column, for programs."""
        return frame(self)

    def __str__(self) -> str:
        return text(self)


def find_row(table: Table, name: str) -> str:
    """The row of this name, or the only one that all words of the name belong to.

    Raises:
        InputError: No row, or several.
    """
    rows = [str(row) for row in table.ranking["row"]]
    if name in rows:
        return name
    lines = table.ranking.to_dict("records")
    found = [line for line in lines if _answers({field: str(line[field]) for field in table.rows}, name)]
    if len(found) == 1:
        return str(found[0]["row"])
    what = "no row" if not found else f"{len(found)} rows"
    raise InputError(
        f"{what} of the table answers to {name!r}: give the fields of one row, such as --compare {rows[0]!r} "
        f"{rows[-1]!r}; there are {', '.join(repr(row) for row in rows[:20])}"
    )


def _answers(fields: Mapping[str, str], name: str) -> bool:
    """Whether a name is made of nothing but values of the fields, `field=` before them or not, in any order."""
    rest = name.strip(" ,")
    for field, value in sorted(fields.items(), key=lambda item: -len(item[1])):
        rest = re.sub(rf"(?:^|(?<=[ ,]))(?:{re.escape(field)}=)?{re.escape(value)}(?=$|[ ,])", "", rest, count=1)
    return bool(name.strip(" ,")) and not rest.strip(" ,")


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
    binary = table.measure.binary and table.measure.better != "target"
    found = [compare(table.scores[a, c], table.scores[b, c], table.column(c), binary=binary) for c in columns]
    adjusted = holm([difference.p for difference in found])
    sign = 1 if table.higher_is_better else -1
    outcomes = [
        "tie" if p > 0.05 or d.value == 0 else "win" if sign * d.value > 0 else "loss"
        for d, p in zip(found, adjusted, strict=True)
    ]
    return Comparison(table.metric, table.measure, title(table), a, b, columns, found, adjusted, outcomes)


def frame(comparison: Comparison) -> pd.DataFrame:
    """One line per column, for programs."""
    import pandas as pd

    found = pd.DataFrame([vars(difference) for difference in comparison.differences])
    names = {"column": comparison.columns, "metric": comparison.metric, "a": comparison.a, "b": comparison.b}
    told = found.rename(columns={"value": "difference"}).assign(p_holm=comparison.p_holm, outcome=comparison.outcomes)
    return pd.DataFrame(names).join(told)


def shown(comparison: Comparison) -> pd.DataFrame:
    """The same as people read it."""
    import pandas as pd

    lines = []
    for column, d, p, outcome in zip(
        comparison.columns, comparison.differences, comparison.p_holm, comparison.outcomes, strict=True
    ):
        value, low, high = (comparison.measure.spelled(x) for x in (d.value, d.low, d.high))
        tests = [_p(x) for x in (d.p, p, d.p_mcnemar, d.p_permutation)]
        counts = map(str, (d.n_folds or d.n_seeds, d.n_rows))
        lines.append([one_line(column), outcome, f"{value} [{low}, {high}]", *tests, *counts])
    runs = "folds" if any(d.n_folds for d in comparison.differences) else "seeds"
    names = ["", "A", "A - B", "p", "p Holm", "McNemar", "permut.", runs, "rows"]
    return pd.DataFrame(lines, columns=names)


def sentences(comparison: Comparison) -> list[str]:
    """What is compared, and how often A wins."""
    count = {kind: comparison.outcomes.count(kind) for kind in ("win", "tie", "loss")}
    wins = f"A wins {count['win']}, ties {count['tie']}, loses {count['loss']} of {len(comparison.columns)}."
    what = comparison.metric
    if comparison.measure.better == "target":
        what = f"distance of {comparison.title}"
    return [f"{what}: A = {one_line(comparison.a)}, B = {one_line(comparison.b)}", wins]


def brief(comparison: Comparison) -> list[str]:
    """One sentence for each column."""
    found = []
    for line in shown(comparison).to_dict("records"):
        tests = ", ".join(f"{name} {line[name]}" for name in ("p Holm", "McNemar", "permut."))
        pair = f"{one_line(comparison.a)} against {one_line(comparison.b)} on {line['']}"
        found.append(f"{pair}: {line['A']}, {comparison.metric} {line['A - B']}, {tests}")
    return found


def text(comparison: Comparison, width: int | None = None) -> str:
    """The comparison for the terminal; where there is little room, without some of the tests and counts."""
    lines, (what, wins), room = shown(comparison), sentences(comparison), width or columns()
    lesser = ["permut.", "rows", lines.columns[-2], "McNemar", "p"]
    return drawn(what, *tables(lessened(lines, N_LEFT, lesser), room), wins, METHOD, width=room)


def export(comparison: Comparison, kind: str, path: Path) -> None:
    """Writes the comparison as `md`, `csv`, `json`, `tex` or `parquet`."""
    told, lines, (what, wins) = frame(comparison), shown(comparison), sentences(comparison)
    plain = lines.map(lambda _: False)
    if kind == "parquet":
        write_file(path, lambda part: told.to_parquet(part, index=False))
    elif kind == "csv":
        write_file(path, csv_text(told))
    elif kind == "json":
        columns = told.astype(object).where(told.notna(), None).to_dict("records")
        write_file(path, json.dumps({"columns": columns, "summary": wins, "method": METHOD}, indent=1))
    elif kind == "tex":
        notes = [latex.escaped(note) for note in (wins, METHOD)]
        write_file(path, latex.environment(latex.plain(lines, N_LEFT), what, slug(path.stem), notes))
    else:
        body = markdown_lines(lines, plain, N_LEFT)
        write_file(path, "\n\n".join([markdown(what), body, markdown(wins), markdown(METHOD)]) + "\n")


def _p(value: float) -> str:
    if value != value:
        return "-"
    return "<.0001" if value < 1e-4 else f"{value:.4f}"
