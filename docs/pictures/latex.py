"""Compiles the LaTeX of a board: `python docs/pictures/latex.py`, which needs pdflatex and pdftoppm."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from boards import board

from probe.leaderboard.board import read_board
from probe.leaderboard.latex import CELLS, latex

PICTURES = Path(__file__).parent
DOCUMENT = (
    "\\documentclass{{article}}\\usepackage{{booktabs}}\\usepackage[paperwidth=15cm,paperheight=26cm,margin=1cm]"
    "{{geometry}}\\pagestyle{{empty}}\\begin{{document}}\n{}\\end{{document}}\n"
)


def draw(folder: Path) -> Path:
    """All tables on one page."""
    table = read_board([board(folder / "runs", 2, 3, 2)]).table
    captions = {"interval": "With intervals", "pm": "As ±", "value": "Values alone"}
    text = "\n".join(latex(table, cells, captions[cells], cells) for cells in CELLS)
    (folder / "page.tex").write_text(DOCUMENT.format(text.replace("\\begin{table}", "\\begin{table}[p]")), "utf-8")
    for command in (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        ["pdftoppm", "-r", "90", "-png", "-singlefile", "page.pdf", str(PICTURES / "latex")],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return PICTURES / "latex.png"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(f"wrote {draw(Path(scratch))}")
