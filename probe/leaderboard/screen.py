"""Tables as text of a given width: where there is little room they say less, and no number or line is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.export import problem_lines, title, wide
from probe.leaderboard.table import Table

if TYPE_CHECKING:
    import pandas as pd

LEAST = 12
"""Characters that a name keeps on one line."""
GAP, EDGES = 3, 4
PIECE = re.compile(r"[^ \-_/.,(]*[ \-_/.,(]?")


@dataclass(frozen=True)
class Layout:
    """One way to show a table.

    Attributes:
        lines: Texts, under the names of their columns.
        n_left: Columns that say what a row is; they stand in each part of a table that is too wide.
        bold: Which texts are bold; None for none.
        told: What is said above it in place of columns.
        whole: Whether its columns all stand beside each other, or follow below where there is no room.
    """

    lines: pd.DataFrame
    n_left: int
    bold: pd.DataFrame | None = None
    told: str = ""
    whole: bool = False

    def without(self, places: Sequence[int], told: str = "") -> Layout:
        """The same with some columns left out."""
        kept = [place for place in range(self.lines.shape[1]) if place not in places]
        bold = None if self.bold is None else self.bold.iloc[:, kept]
        n_left = sum(place < self.n_left for place in kept)
        return Layout(self.lines.iloc[:, kept], n_left, bold, told or self.told, self.whole)


def terminal(table: Table, width: int | None = None) -> str:
    """The ranked table, best first, at most `width` characters wide, by default as wide as the terminal."""
    room = width or columns()
    parts = tables(list(layouts(table)), room)
    return drawn(title(table), *parts, *map(one_line, table.notes), *problem_lines(table), width=room)


def layouts(table: Table) -> Iterator[Layout]:
    """From all that there is to the values alone: ranks lose their intervals, then what all rows share is said once."""
    lines, marks = wide(table)
    rank = len(table.rows)
    found = Layout(lines, rank + 1, marks == "best")
    yield found
    lines = lines.copy()
    lines.isetitem(rank, [text.partition(" ")[0] for text in lines.iloc[:, rank]])
    yield (found := Layout(lines, rank + 1, found.bold))
    same = [place for place in range(rank) if len(lines) > 1 and lines.iloc[:, place].nunique() == 1]
    if same and len(same) < rank:
        told = ", ".join(f"{lines.columns[place]} {lines.iloc[0, place]!s}" for place in same)
        yield (found := found.without(same, f"All rows: {told}."))
    by_rank = "From the best rank to the worst." if lines.iloc[:, rank].ne("-").any() else ""
    yield (found := found.without([found.n_left - 1], f"{found.told} {by_rank}".strip()))
    if found.n_left > 1:
        yield (found := _joined(found))
    values = found.lines.copy()
    for place in range(found.n_left, values.shape[1]):
        values.isetitem(place, [re.sub(r" \[.*\]", "", text) for text in values.iloc[:, place]])
    yield Layout(values, found.n_left, found.bold, f"{found.told} Without intervals.".strip())


def _joined(layout: Layout) -> Layout:
    """With all that says what a row is in one column."""
    names, n = layout.lines, layout.n_left
    joined = [" ".join(line) for line in names.iloc[:, :n].to_numpy(dtype=object).tolist()]
    lines = names.iloc[:, n - 1 :].copy()
    lines.isetitem(0, joined)
    lines.columns = [" ".join(names.columns[:n]), *names.columns[n:]]
    return Layout(lines, 1, None if layout.bold is None else layout.bold.iloc[:, n - 1 :], layout.told)


def lessened(lines: pd.DataFrame, n_left: int, lesser: Sequence[str]) -> list[Layout]:
    """A table with all columns, then without more and more of the lesser ones."""
    found = [Layout(lines, n_left, whole=True)]
    for name in lesser:
        found.append(found[-1].without([list(found[-1].lines.columns).index(name)]))
    return [*found, replace(found[-1], whole=False)]


def tables(layouts: Sequence[Layout], width: int) -> list[Any]:
    """The first layout that has room for all columns, else for one, for rich; then the others follow below.

    Names are broken over lines only where no layout has room for them as they are, and before the last one is taken.
    """
    usual = layouts[:-1] or layouts
    beside = [replace(one, whole=True) for one in usual]
    chosen = next((one for one in [*beside, *usual] if _fits(one, width, _whole)), None)
    sizes = _whole if chosen else _least
    chosen = chosen or next((one for one in usual if _fits(one, width, _least)), layouts[-1])
    names = [sizes(chosen.lines, place) for place in range(chosen.n_left)]
    parts: list[Any] = [chosen.told] if chosen.told else []
    for part, places in enumerate(_chunks(chosen, names, width)):
        own = [*names, *(_value(chosen.lines, place) for place in places)]
        spare = width - _total(own) - EDGES
        for i, place in enumerate([*range(chosen.n_left), *places]):  # names take what is left
            more = min(max(0, spare), _whole(chosen.lines, place) - own[i])
            own[i], spare = own[i] + more, spare - more
        if part and _total(own) + EDGES > width:  # no edges set it apart
            parts.append("")
        parts.append(_drawn(chosen.lines, chosen.bold, [*range(chosen.n_left), *places], own, chosen.n_left, width))
    return parts


def _whole(lines: pd.DataFrame, place: int) -> int:
    return max(_length(text) for text in [lines.columns[place], *lines.iloc[:, place]])


def _least(lines: pd.DataFrame, place: int) -> int:
    return min(_whole(lines, place), LEAST)


def _value(lines: pd.DataFrame, place: int) -> int:
    """What a column of values needs: they are never broken, its name is."""
    return max(min(LEAST, _length(lines.columns[place])), *(_length(text) for text in lines.iloc[:, place]))


def _length(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _total(sizes: Sequence[int]) -> int:
    """Of a table without its edges."""
    return sum(sizes) + GAP * (len(sizes) - 1)


def _fits(layout: Layout, width: int, sizes: Any) -> bool:
    names = [sizes(layout.lines, place) for place in range(layout.n_left)]
    values = [_value(layout.lines, place) for place in range(layout.n_left, layout.lines.shape[1])]
    return _total([*names, *(values if layout.whole else [max(values, default=0)])]) <= width


def _chunks(layout: Layout, names: Sequence[int], width: int) -> list[list[int]]:
    """Groups of columns that fit the width, each behind the columns that name the row."""
    chunks: list[list[int]] = [[]]
    for place in range(layout.n_left, layout.lines.shape[1]):
        beside = [_value(layout.lines, other) for other in [*chunks[-1], place]]
        if chunks[-1] and _total([*names, *beside]) > width:
            chunks.append([])
        chunks[-1].append(place)
    return chunks


def _drawn(
    lines: pd.DataFrame, bold: pd.DataFrame | None, places: Sequence[int], sizes: Sequence[int], n_left: int, width: int
) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    has_edge = _total(sizes) + EDGES <= width
    found = RichTable(box=box.SIMPLE, header_style="", show_edge=has_edge, pad_edge=has_edge)
    for i, place in enumerate(places):
        name, side = broken(lines.columns[place], sizes[i]), "left" if i < n_left else "right"
        found.add_column(Text(name, justify=side), justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in range(len(lines)):
        texts = [broken(str(lines.iloc[row, place]), size) for place, size in zip(places, sizes, strict=True)]
        styles = ["bold" if bold is not None and bool(bold.iloc[row, place]) else "" for place in places]
        found.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return found


def broken(text: str, room: int) -> str:
    """A name over as many lines as it takes, broken behind spaces and signs where it has some."""
    found = [""]
    for piece in PIECE.findall(text):
        if found[-1] and _length(found[-1] + piece.rstrip()) > room:
            found.append("")
        for letter in piece:
            if _length(found[-1].rstrip() + letter.rstrip()) > room:
                found.append("")
            found[-1] += letter
    return "\n".join(line.rstrip() for line in found)
