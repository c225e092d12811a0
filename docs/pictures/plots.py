"""Draws the cost and risk plots of boards with 12 and with 60 rows: `python docs/pictures/plots.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from boards import board
from PIL import Image

from probe.leaderboard.figures import saver
from probe.leaderboard.index import read_folders
from probe.leaderboard.rows_in_colour import cost, risk
from probe.leaderboard.table import build_table

PICTURES = Path(__file__).parent
BOARDS = {12: (3, 4), 60: (6, 10)}
"""Rows -> backbones and heads."""


def draw(folder: Path) -> list[Path]:
    """Two figures for each board."""
    written = []
    for n, (n_backbones, n_heads) in BOARDS.items():
        records = read_folders([board(folder / str(n), n_backbones, n_heads)])
        table = build_table(records)
        for name, figure in (("cost", cost(table, records.frame)), ("risk", risk(table, records.frame))):
            path = PICTURES / f"{name}-{n}.png"
            saver(figure, "png")(path)
            with Image.open(path) as drawn:  # few colours, a third of the size
                drawn.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
            written.append(path)
    return written


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(*(f"wrote {path}" for path in draw(Path(scratch))), sep="\n")
