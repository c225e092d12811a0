"""Names on their way out: one function for each border, so that no name is an order to whatever shows it.

Names of datasets, backbones, heads, classes, runs and files come from other people. Inside the program they stay what
they are; each of these functions makes one of them harmless where it leaves.
"""

from __future__ import annotations

import html as _html
import re
from collections.abc import Sequence
from typing import Any

# Signs of full width count too, as spreadsheets in East Asia read them; and some divide cells at semicolons.
FORMULA = re.compile("(^|;)(?=\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
LATEX: Sequence[tuple[str, str]] = (
    ("\\", "\\textbackslash\0"), ("{", r"\{"), ("}", r"\}"), ("\0", "{}"), ("&", r"\&"), ("%", r"\%"), ("$", r"\$"),
    ("#", r"\#"), ("_", r"\_"), ("~", r"\textasciitilde{}"), ("^", r"\textasciicircum{}"), ("†", r"\dag{}"),
    ("‡", r"\ddag{}"), ("±", r"\ensuremath{\pm}"),
    ("<", r"\textless{}"), (">", r"\textgreater{}"), ("|", r"\textbar{}"), ("[", "{[}"), ("]", "{]}"),
)  # fmt: skip


def one_line(value: Any) -> str:
    """Text for a terminal, a log or a figure: one line; what is no printable character becomes a space.

    That takes escape codes, line ends, tabs, marks that turn the direction of writing, and bytes that are no text.
    """
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def csv_cell(value: Any) -> Any:
    """A cell of a csv file: text on one line, with an apostrophe before what a spreadsheet would compute.

    A spreadsheet computes what begins with =, +, - or @, blanks before it or not. Numbers stay numbers.
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return text if NUMBER.fullmatch(text) else FORMULA.sub(r"\1'", text)


def markdown(value: Any) -> str:
    """Text in a markdown table: nothing in it is a mark, a tag or a cell border."""
    return MARKDOWN.sub(r"\\\1", one_line(value)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def latex(value: Any) -> str:
    """Text in LaTeX; a leading bracket is no option of the line break before it."""
    escaped = one_line(value)
    for character, replacement in LATEX:
        escaped = escaped.replace(character, replacement)
    return escaped


def html(value: Any) -> str:
    """Text in an HTML element or attribute."""
    return _html.escape(one_line(value))


def figure_text(value: Any) -> str:
    """Text in which matplotlib finds no formula."""
    return one_line(value).replace("$", r"\$")
