"""A leaderboard from Python: runs of three heads over two seeds, the ranked table, and a file of it.

python examples/leaderboard.py            # into the working folder; or name another one
"""

from __future__ import annotations

import sys
from pathlib import Path

from probe.command.config import build, compose
from probe.experiment.run import run
from probe.leaderboard import export, files
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table


def main(folder: Path) -> None:
    """Runs what is missing below `folder`, prints the table and writes `leaderboard.csv`."""
    runs = [
        run(build(compose([f"runs={folder / 'runs'}", "dataset=iris", f"head={head}", f"seed={seed}"]), "from Python"))
        for head in ("ncm", "lda", "ridge")
        for seed in (0, 1)
    ]
    table = build_table(read_folders(runs))
    print(export.markdown(table))
    files.export(table, "csv", folder / "leaderboard.csv")
    best = table.ranking.sort_values("rank").iloc[0]
    print(f"first: {best['row']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
