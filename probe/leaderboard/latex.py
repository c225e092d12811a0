"""The table as a float of LaTeX: caption, label, rows grouped by backbone, and below it what its marks mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probe.core.errors import InputError
from probe.core.escaping import latex as escaped
from probe.core.escaping import one_line
from probe.leaderboard.export import rank_text, title
from probe.leaderboard.notes import METHOD, RANKS
from probe.leaderboard.table import Table

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("booktabs",)
CELLS = {
    "interval": "95 % interval in brackets, for new test rows and new seeds",
    "pm": "± half of the 95 % interval, for new test rows and new seeds",
    "value": "",
}
"""How a cell is written, and what is said of it under the table."""
SIGNS = {"tied": r"$^{\sim}$", "not_above": r"$^{\ddagger}$", "selected_on": r"$^{\dagger}$"}


def latex(table: Table, cells: str = "interval", caption: str | None = None, label: str = "leaderboard") -> str:
    """A table environment that needs `booktabs` alone.

    Args:
        table: The best of a column is bold, the second best underlined; rows are grouped by their first field where
            some share it.
        cells: `interval` (98.6 [97.3, 99.4]), `pm` (98.6 ± 1.1) or `value` (98.6).
        caption: As text; by default what the numbers are.
        label: Behind `tab:`.
    """
    if cells not in CELLS:
        raise InputError(f"cells are {cells!r}, expected one of {', '.join(CELLS)}: choose one with --cells")
    found = {(cell["row"], cell["column"]): cell for cell in table.cells.to_dict("records")}
    second = second_best(table)
    lines: dict[str, list[list[str]]] = {}
    for line in table.ranking.to_dict("records"):
        texts = [_cell(found.get((line["row"], column)), table, cells, second) for column in table.column_names]
        rank = escaped(rank_text(line) if cells == "interval" else rank_text(line).partition(" ")[0])
        names = [escaped(line[field]) for field in table.rows]
        lines.setdefault(names[0], []).append([*names, rank, *texts])
    header = [*(escaped(table.named(field)) for field in table.rows), "rank", *map(escaped, table.column_names)]
    grouped = len(table.rows) > 1 and any(len(group) > 1 for group in lines.values())
    body = _grouped(lines) if grouped else [" & ".join(line) for group in lines.values() for line in group]
    header = header[1:] if grouped else header
    n_left = len(table.rows) - grouped
    rule = tabular("l" * n_left + "r" * (len(header) - n_left), header, body)
    told = [note for note in table.notes if note != RANKS and not note.startswith(METHOD[:30])]
    notes = [_legend(table, cells, bool(second)), *map(_note, told)]
    return environment(rule, caption or title(table), label, notes, [n for n in table.notes if n not in told])


def _legend(table: Table, cells: str, has_second: bool) -> str:
    """What the marks of a table mean, those that it has."""
    marks = table.cells
    said = [
        ("best" in set(marks["mark"]), r"\textbf{bold}: best of its column"),
        (has_second, r"\underline{underlined}: second best"),
        ("tied" in set(marks["mark"]), f"{SIGNS['tied']} not distinguishable from the best"),
        (bool((marks["not_above"] != "").any()), f"{SIGNS['not_above']} not better than a control"),
        (bool((marks["selected_on"] != "").any()), f"{SIGNS['selected_on']} selected on other rows than validation"),
        (CELLS[cells] != "", escaped(CELLS[cells])),
    ]
    told = [what for is_there, what in said if is_there]
    return "Means over seeds" + "".join(f"; {what}" for what in told) + "."


def _note(text: str) -> str:
    """A note in which the marks are those of the cells."""
    return escaped(text).replace(r"\dag{}", SIGNS["selected_on"], 1).replace(r"\ddag{}", SIGNS["not_above"], 1)


def second_best(table: Table) -> set[tuple[str, str]]:
    """The cells, by row and column, that only the best of their column surpass."""
    found = set()
    for _, group in table.cells[table.cells["mark"] != "best"].groupby("column"):
        if table.cells["column"].eq(group["column"].iloc[0]).sum() > 2:
            least = group[group["badness"] == group["badness"].min()]
            found |= set(zip(least["row"], least["column"], strict=True))
    return found


def _cell(cell: Mapping[Any, Any] | None, table: Table, cells: str, second: set[tuple[str, str]]) -> str:
    if cell is None:
        return "--"
    value, low, high = (escaped(table.measure.spelled(cell[key])) for key in ("value", "low", "high"))
    half = escaped(table.measure.spelled((cell["high"] - cell["low"]) / 2))
    if cell["mark"] == "best":
        value = rf"\textbf{{{value}}}"
    elif (cell["row"], cell["column"]) in second:
        value = rf"\underline{{{value}}}"
    signs = SIGNS["tied"] * (cell["mark"] == "tied")
    signs += "".join(SIGNS[name] for name in ("not_above", "selected_on") if cell[name])
    more = {"interval": rf" {{\scriptsize [{low}, {high}]}}", "pm": rf" {{\scriptsize $\pm$ {half}}}", "value": ""}
    return value + signs + more[cells]


def _grouped(lines: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """Lines without their first field, which stands above each group."""
    body = []
    for place, (name, group) in enumerate(lines.items()):
        width = len(group[0]) - 1
        body.append((r"\addlinespace" + "\n") * (place > 0) + rf"\multicolumn{{{width}}}{{l}}{{\textit{{{name}}}}}")
        body += [r"\quad " + " & ".join(line[1:]) for line in group]
    return body


def tabular(alignment: str, header: Sequence[str], body: Sequence[str]) -> str:
    """Lines between the rules of booktabs; everything in them is LaTeX already."""
    lines = "".join(rf"{line} \\" + "\n" for line in body)
    return (
        rf"\begin{{tabular}}{{{alignment}}}" + "\n\\toprule\n" + " & ".join(header) + " \\\\\n\\midrule\n"
        f"{lines}\\bottomrule\n\\end{{tabular}}\n"
    )  # fmt: skip


def plain(lines: pd.DataFrame, n_left: int) -> str:
    """Texts as a tabular, escaped; the first columns are set to the left, the others to the right."""
    body = [" & ".join(map(escaped, line)) for line in lines.to_numpy(dtype=object).tolist()]
    return tabular("l" * n_left + "r" * (lines.shape[1] - n_left), [escaped(name) for name in lines.columns], body)


def environment(tabular: str, caption: str, label: str, notes: Sequence[str], comments: Sequence[str] = ()) -> str:
    """A tabular as a float, with notes as wide as the text below it; packages and comments come first."""
    packages = "".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    first = [f"needs {packages}", *map(one_line, comments)]
    told = " ".join(notes)
    return (
        "".join(f"% {line}\n" for line in first) + "\\begin{table}\n\\centering\n"
        f"\\caption{{{escaped(caption)}}}\n\\label{{tab:{label}}}\n{tabular}"
        f"\\par\\smallskip\n\\parbox{{\\linewidth}}{{\\footnotesize {told}}}\n\\end{{table}}\n"
    )
