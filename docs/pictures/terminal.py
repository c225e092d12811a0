"""Draws the leaderboard as terminals of 40, 80 and 120 columns show it: `python docs/pictures/terminal.py`."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from boards import board
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from probe.leaderboard.board import read_board
from probe.leaderboard.screen import terminal

PICTURES = Path(__file__).parent
WIDTHS = (40, 80, 120)
N_LINES = 40
THEME = TerminalTheme((255, 255, 255), (34, 39, 46), [(34, 39, 46)] * 8)
FORMAT = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}</style>
<rect width="100%" height="100%" rx="8" fill="#f6f8fa"/>
<g transform="translate(8, 8)" class="{unique_id}-matrix">
{matrix}
</g>
</svg>
"""
"""That of rich without a window around it, and without a font from the network."""


def draw(folder: Path) -> list[Path]:
    """One file for each width."""
    table = read_board([board(folder, 3, 4, 2)]).table
    written = []
    for width in WIDTHS:
        console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
        lines = terminal(table, width).splitlines()
        for line in [*lines[:N_LINES], *["…"] * (len(lines) > N_LINES), ""]:
            console.print(line, highlight=False, markup=False, no_wrap=True)
        path = PICTURES / f"terminal-{width}.svg"
        path.write_text(console.export_svg(theme=THEME, code_format=FORMAT, unique_id=f"terminal{width}"), "utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(*(f"wrote {path}" for path in draw(Path(scratch))), sep="\n")
