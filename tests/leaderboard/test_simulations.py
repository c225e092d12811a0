"""Simulated leaderboards whose truth is known: how often intervals cover it, and how often chance looks like skill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from probe.leaderboard.pairs import compare
from probe.leaderboard.ranks import rank
from probe.leaderboard.statistics import Scores, intervals, scores

pytestmark = pytest.mark.slow
ROW, REST = 1.0, 0.5


def draw(rng: np.random.Generator, n_systems: int, n_seeds: int, n_rows: int, seed: float, level: Any) -> list[Scores]:
    """Systems that are right where a normal of unit variance lies below `level`: the truth is ndtr(level) for all.

    Rows that are hard for one are hard for all; seeds move the skill of a system by `seed` (with ROW = 1), and the
    rest is drawn anew for each row, system and seed.
    """
    scale = np.sqrt(ROW**2 + REST**2 + seed**2)
    rows = ROW * rng.normal(size=(1, 1, n_rows))
    skills = seed * rng.normal(size=(n_systems, n_seeds, 1))
    right = rows + skills + REST * rng.normal(size=(n_systems, n_seeds, n_rows)) < level * scale
    return [scores(list(system.astype(float)), None, range(n_seeds), n_rows) for system in right]


def test_intervals_cover_the_truth_93_to_97_times_in_100_over_1000_leaderboards() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        n_seeds, seed, level = rng.choice([1, 3, 5]), rng.choice([0.05, 0.1, 0.2]), rng.uniform(0, 1.5)
        for _ in range(2):
            systems = draw(rng, 4, n_seeds, 400, 0.0 if n_seeds == 1 else seed, level)
            low, high = intervals(systems, proportion=True)
            covered += list((low <= ndtr(level)) & (ndtr(level) <= high))
    assert 0.93 <= np.mean(covered) <= 0.97, np.mean(covered)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("seed", [0.0, 0.1, 0.3])
def test_intervals_of_any_setting_never_cover_much_too_seldom(n_seeds: int, seed: float) -> None:
    """Upwards there is room: with two or three seeds whose own share is small, Student's tails are too wide."""
    rng = np.random.default_rng(n_seeds)
    found = [intervals(draw(rng, 4, n_seeds, 300, seed, 1.0), proportion=True) for _ in range(400)]
    covered = np.mean([(low <= ndtr(1.0)) & (ndtr(1.0) <= high) for low, high in found])
    assert 0.93 <= covered <= 0.995, covered


@pytest.mark.parametrize(("n_seeds", "seed"), [(1, 0.0), (3, 0.0), (3, 0.1), (3, 0.3), (5, 0.1)])
def test_compare_calls_equal_systems_different_at_most_7_times_in_100(n_seeds: int, seed: float) -> None:
    rng = np.random.default_rng(10 * n_seeds)
    p = [compare(*draw(rng, 2, n_seeds, 400, seed, 1.0), binary=True).p for _ in range(1500)]
    assert np.mean(np.array(p) <= 0.05) <= 0.075, np.mean(np.array(p) <= 0.05)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_mcnemar_and_permutation_call_equal_heads_different_3_to_7_times_in_100(n_seeds: int) -> None:
    rng = np.random.default_rng(n_seeds)
    found = [compare(*draw(rng, 2, n_seeds, 400, 0.0, 1.0), binary=True) for _ in range(1500)]
    for p in ([d.p_mcnemar for d in found], [d.p_permutation for d in found]):
        assert 0.03 <= np.mean(np.array(p) <= 0.05) <= 0.07, np.mean(np.array(p) <= 0.05)


@pytest.mark.parametrize(("n_systems", "n_seeds", "seed"), [(6, 1, 0.0), (6, 3, 0.1), (12, 3, 0.2), (6, 5, 0.2)])
def test_equal_systems_share_all_ranks_95_times_in_100(n_systems: int, n_seeds: int, seed: float) -> None:
    rng = np.random.default_rng(n_systems)
    wrong, excluded = [], []
    for i in range(300):
        ranking = rank([draw(rng, n_systems, n_seeds, 300, seed, 1.0) for _ in range(2)], seed=i)
        wrong.append(any((one.low > 1).any() for one in ranking))
        excluded += [not one.maybe_best[0] for one in ranking]
    assert np.mean(wrong) <= 0.08, np.mean(wrong)
    assert np.mean(excluded) <= 0.08, np.mean(excluded)


def test_the_bounds_of_ranks_hold_the_true_ranks() -> None:
    rng = np.random.default_rng(0)
    wrong = []
    for i in range(200):
        levels = np.sort(rng.uniform(0.5, 1.2, 6))[::-1]
        rows = rng.normal(size=(1, 400))
        right = [(rows + REST * rng.normal(size=(3, 400)) + 0.1 * rng.normal(size=(3, 1))) < level for level in levels]
        ranking = rank([[scores(list(one.astype(float)), None, range(3), 400) for one in right]], seed=i)[0]
        true = np.arange(1, 7)
        wrong.append(((true < ranking.low) | (true > ranking.high)).any())
    assert np.mean(wrong) <= 0.08, np.mean(wrong)


@pytest.mark.parametrize(
    ("n_systems", "n_seeds", "n_rows", "level"),
    [(50, 2, 300, 0.52), (50, 3, 100, 1.88), (20, 2, 100, 1.28), (50, 10, 100, 0.52), (10, 5, 2000, 1.88)],
)
@pytest.mark.parametrize("seed", [0.0, 0.1])
def test_many_equal_systems_of_few_seeds_near_the_ceiling_share_all_ranks(
    n_systems: int, n_seeds: int, n_rows: int, level: float, seed: float
) -> None:
    rng = np.random.default_rng(0)
    found = [rank([draw(rng, n_systems, n_seeds, n_rows, seed, level)], seed=i)[0] for i in range(100)]
    assert np.mean([(one.low > 1).any() for one in found]) <= 0.11


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
@pytest.mark.parametrize("seed", [0.0, 0.1, 0.3])
def test_cells_that_learn_from_their_column_cover_the_truth(n_seeds: int, seed: float) -> None:
    rng = np.random.default_rng(0)
    found = [intervals(draw(rng, 10, n_seeds, 300, seed, 1.0), proportion=True) for _ in range(300)]
    covered = np.mean([(low <= ndtr(1.0)) & (ndtr(1.0) <= high) for low, high in found], axis=0)
    assert 0.92 <= covered.mean() <= 0.98, covered.mean()
    assert covered.min() >= 0.89, covered.min()


@pytest.mark.parametrize(("n_systems", "n_boards"), [(10, 60), (2, 400)])
def test_a_comparison_on_a_board_gains_power_with_seeds(n_systems: int, n_boards: int) -> None:
    found = {}
    for n_seeds in (1, 3, 5):
        rng = np.random.default_rng(0)
        p = []
        for _ in range(n_boards):
            levels = np.array([1.28] + [1.175] * (n_systems - 1))[:, None, None]
            column = draw(rng, n_systems, n_seeds, 1000, 0.0, levels)
            p.append(compare(column[0], column[1], column, binary=True).p)
        found[n_seeds] = np.mean(np.array(p) <= 0.05)
    assert found[1] < found[3] < found[5], found
