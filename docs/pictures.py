"""Draws the pictures of the documents, at a fixed seed: `python docs/pictures.py`.

The leaderboard of the picture is synthetic: heads of known accuracy, on test rows that some find harder than others.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from probe.leaderboard.ranks import rank
from probe.leaderboard.statistics import scores

mpl.use("agg")
from matplotlib import pyplot as plt

PICTURES = Path(__file__).parent / "pictures"
SYSTEMS = {"ridge": 2.6, "lda": 2.5, "linear": 2.45, "naive_bayes": 1.6, "ncm": 1.5}
N_ROWS, N_SEEDS = 900, 3


def draw(seed: int = 0) -> Path:
    """Ranks with their intervals; accuracies follow from the difficulty of rows that all systems share."""
    random = np.random.default_rng(seed)
    hard = random.normal(0, 1.2, N_ROWS)
    column = []
    for skill in SYSTEMS.values():
        seeds = [
            random.random(N_ROWS) < 1 / (1 + np.exp(-skill + hard + random.normal(0, 0.05))) for _ in range(N_SEEDS)
        ]
        column.append(scores([values.astype(float) for values in seeds], None, range(N_SEEDS), N_ROWS))
    (ranking,) = rank([column])
    figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    for place, (name, system) in enumerate(zip(SYSTEMS, column, strict=True)):
        low, high = int(ranking.low[place]), int(ranking.high[place])
        axes.plot([low, high], [place, place], color="tab:blue", linewidth=6, alpha=0.35, solid_capstyle="round")
        axes.annotate(f"{name}  {100 * system.value:.1f} %", (high, place), (8, -3), textcoords="offset points")
    axes.set(xlabel="rank, 95 % of them all at once", xlim=(0.7, 6.5), ylim=(len(SYSTEMS) - 0.5, -0.5), yticks=[])
    axes.set_xticks(range(1, len(SYSTEMS) + 1))
    axes.spines[["top", "right", "left"]].set_visible(False)
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / "ranks.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    print(f"wrote {draw()}")
