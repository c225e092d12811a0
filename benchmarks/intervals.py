"""Whether the leaderboard's intervals, ranks and comparisons hold: worlds with known truth, drawn again and again.

    python benchmarks/intervals.py [--quick] [--parts boards cells pairs] [--boards 200]

A system is right on a row where row + seed + rest < its level, all normal, with deviations 1, `seed` and 0.5: rows that
are hard for one are hard for all. `boards`: equal systems, share of boards on which any two are told apart by their
ranks (target: at most 7 %). `cells`: share of cells whose interval holds the truth, over systems and of the worst
single one, and the median width in points. `pairs`: how often `--compare` calls equal systems different (target: 3 to
7 %), and how often it finds .90 to be better than .88 on 1,000 rows.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from probe.leaderboard.pairs import pair_law, pair_variances
from probe.leaderboard.ranks import rank
from probe.leaderboard.statistics import Scores, intervals

ROW, REST = 1.0, 0.5
WORLDS = {
    "seeds add nothing": [0.0] * 10,
    "seeds add 0.1": [0.1] * 10,
    "seeds add 0.3": [0.3] * 10,
    "mixed": [0.0, 0.0, 0.0, 0.05, 0.1, 0.1, 0.1, 0.2, 0.3, 0.3],
    "one of 0.3": [0.0] * 9 + [0.3],
    "0.2 in common": [0.05] * 10,
}


def draw(
    rng: np.random.Generator, seeds: ArrayLike, n_seeds: int, n_rows: int, level: ArrayLike, common: float = 0.0
) -> list[Scores]:
    """A column of S systems whose truth is ndtr(level).

    Args:
        rng: Of all draws.
        seeds: (S,) how far a seed moves each system, in deviations of the rows.
        n_seeds: R.
        n_rows: N.
        level: (S,) or one.
        common: How far a seed moves all systems together.
    """
    seeds = np.asarray(seeds, dtype=float)[:, None, None]
    level = np.broadcast_to(np.asarray(level, dtype=float), len(seeds))[:, None, None]
    scale = np.sqrt(ROW**2 + REST**2 + seeds**2 + common**2)
    skill = seeds * rng.normal(size=(len(seeds), n_seeds, 1)) + common * rng.normal(size=(n_seeds, 1))
    rest = REST * rng.standard_normal((len(seeds), n_seeds, n_rows), dtype=np.float32)
    right = (ROW * rng.normal(size=n_rows) + skill + rest < level * scale).astype(np.float64)
    means = right.mean(axis=2)
    influences = (right - means[:, :, None]) / (n_rows * n_seeds)
    return [Scores(tuple(range(n_seeds)), *system) for system in zip(means, influences, strict=True)]


def boards(n: int, quick: bool) -> Iterator[Sequence[object]]:
    """Wrong boards of equal systems."""
    yield "systems", "seeds", "rows", "accuracy", "seeds add", "wrong boards, %", "a best one unmarked, %"
    grid = itertools.product((10, 20, 50), (2, 3, 5, 10), (100, 300, 2000), (0.7, 0.9, 0.97), (0.0, 0.1))
    for S, R, N, p, seed in itertools.islice(grid, 0, None, 7 if quick else 1):
        rng = np.random.default_rng(0)
        found = [rank([draw(rng, [seed] * S, R, N, ndtri(p))], seed=i)[0] for i in range(n)]
        wrong, unmarked = np.mean([((f.low > 1).any(), not f.maybe_best[0]) for f in found], axis=0)
        yield S, R, N, p, seed, f"{100 * wrong:.1f}", f"{100 * unmarked:.1f}"


def cells(n: int, quick: bool) -> Iterator[Sequence[object]]:
    """Coverage of the intervals of cells, boards of ten systems."""
    yield "world", "seeds", "rows", "accuracy", "covered", "worst system", "width"
    grid = itertools.product(WORLDS, (1, 2, 3, 5, 10), ((300, 0.84), (2000, 0.84), (300, 0.97)))
    for world, R, (N, p) in itertools.islice(grid, 0, None, 4 if quick else 1):
        if R == 1 and world != "seeds add nothing":
            continue
        rng = np.random.default_rng(0)
        common = 0.2 if "common" in world else 0.0
        found = [intervals(draw(rng, WORLDS[world], R, N, ndtri(p), common), proportion=True) for _ in range(n)]
        bounds = np.array(found)
        covered = ((bounds[:, 0] <= p) & (p <= bounds[:, 1])).mean(axis=0)
        width = 100 * np.median(bounds[:, 1] - bounds[:, 0])
        yield world, R, N, p, f"{covered.mean():.3f}", f"{covered.min():.3f}", f"{width:.1f}"


def pairs(n: int, quick: bool) -> Iterator[Sequence[object]]:
    """False positives and power of paired comparisons, of two systems alone and on a board of ten."""
    yield "systems", "seeds", "seeds add", "equal, called different, %", ".90 against .88 found, %"
    levels = ndtri([0.90, 0.88] * 5)
    for S, seed, R in itertools.product((2, 10), (0.0, 0.05, 0.1), (1, 3) if quick else (1, 2, 3, 5, 10)):
        rng = np.random.default_rng(0)
        moves = [seed if R > 1 else 0.0] * S
        wrong = [p for _ in range(2 * n // S) for p in _p_values(draw(rng, moves, R, 400, ndtri(0.84)))]
        found = [p for _ in range(2 * n // S) for p in _p_values(draw(rng, moves, R, 1000, levels[:S]))]
        yield S, R, seed, *(f"{100 * np.mean(np.array(p) <= 0.05):.1f}" for p in (wrong, found))


def _p_values(column: list[Scores]) -> list[float]:
    """Of the systems two by two, as `compare` has them, without its permutations."""
    variances = pair_variances(column)
    leads = np.array([a.value - b.value for a, b in zip(column[::2], column[1::2], strict=True)])
    places = np.arange(0, len(column), 2)
    tails = pair_law(variances).spread(variances.at((places, places + 1))).tail(np.abs(leads))
    return [2 * float(tail) for tail in tails]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    parts = {function.__name__: function for function in (boards, cells, pairs)}
    options.add_argument("--parts", nargs="+", default=list(parts), choices=list(parts))
    options.add_argument("--boards", type=int, default=200, help="drawn for each line")
    options.add_argument("--quick", action="store_true", help="some of the lines, for a look")
    arguments = options.parse_args()
    for name in arguments.parts:
        print(f"\n{parts[name].__doc__}\n")
        for i, line in enumerate(parts[name](arguments.boards, arguments.quick)):
            print("|", " | ".join(map(str, line)), "|", flush=True)
            if i == 0:
                print("|---" * len(line) + "|")


if __name__ == "__main__":
    main()
