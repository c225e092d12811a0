import numpy as np
import pytest

import probe
from probe.leaderboard.command import main
from probe.leaderboard.worst_group import compare, worst

GROUPS = np.repeat(np.arange(3), [40, 40, 20])


def rows(rates, rng, shared=None):
    """Right or wrong rows of a system with a rate in each group; `shared` makes two systems alike on many rows."""
    chance = rng.random(len(GROUPS)) if shared is None else shared
    return (chance < np.array(rates)[GROUPS]).astype(np.float64)


def test_the_worst_group_is_the_lowest_mean_and_empty_ones_take_no_part():
    right = np.array([1.0, 0, 1, 1, 0.5])
    assert worst(right, np.array([0, 0, 1, 1, 3])) == 0.5
    assert worst(np.stack([right, 1 - right]), np.array([0, 0, 1, 1, 3])).tolist() == [0.5, 0]


def test_systems_that_are_alike_are_told_apart_at_the_level_of_the_test():
    rejected = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = (rows([0.9, 0.7, 0.7], rng) for _ in range(2))
        rejected.append(compare(a, b, GROUPS, n_draws=100).p <= 0.05)
    assert np.mean(rejected) <= 0.12


def test_a_better_worst_group_is_found_and_held_by_the_interval():
    inside, found = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        difference = compare(rows([0.98, 0.98, 0.8], rng), rows([0.98, 0.98, 0.35], rng), GROUPS, n_draws=200)
        inside.append(difference.low <= 0.45 <= difference.high)
        found.append(difference.p <= 0.05)
    assert np.mean(inside) >= 0.85
    assert np.mean(found) > 0.6


def test_a_system_beside_itself_is_no_better():
    a = rows([0.9, 0.5, 0.7], np.random.default_rng(0))
    found = compare(a, a, GROUPS, n_draws=50)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_command_compares_each_row_with_the_best(tmp_path, capsys):
    rng, lines = np.random.default_rng(0), ["part,label,place,x0,x1"]
    for part, n in (("train", 120), ("test", 120)):
        for i in range(n):
            label, place = i % 2, "sea" if i % 4 < 2 else "land"
            x = rng.normal(size=2) + np.array([2 * label, 1.5 * (place == "sea")])
            lines.append(f"{part},{label},{place},{x[0]:.4f},{x[1]:.4f}")
    (tmp_path / "birds.csv").write_text("\n".join(lines))
    options = {"path": str(tmp_path / "birds.csv"), "group_column": "place", "partition_column": "part"}
    for head in ("ncm", "lda", "majority_class"):
        probe.run(dataset=("csv", options), head=head, runs=tmp_path / "runs", cache=tmp_path / "cache", quiet=True)
    assert main([str(tmp_path / "runs"), "--worst-group"]) == 0
    printed = capsys.readouterr().out
    assert "Worst of 2 groups, birds" in printed
    assert "majority_class" in printed
    assert "best" in printed


def test_runs_without_groups_are_told_the_way(tmp_path, capsys):
    probe.run(dataset="iris", head="ncm", runs=tmp_path / "runs", cache=tmp_path / "cache", quiet=True)
    assert main([str(tmp_path / "runs"), "--worst-group"]) == 1
    assert "no run kept the groups of its test rows" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 60, 200])
@pytest.mark.parametrize(("a", "b"), [((0.9, 0.8, 0.6), (0.9, 0.8, 0.5)), ((0.9, 0.8, 0.8), (0.9, 0.8, 0.8))])
def test_intervals_of_worst_groups_hold_and_equal_systems_are_seldom_told_apart(n, a, b):
    groups, rng = np.repeat(np.arange(3), n), np.random.default_rng(0)
    held, rejected = [], []
    for seed in range(200):
        draws = rng.random((2, len(groups)))
        draws[1] = np.where(rng.random(len(groups)) < 0.6, draws[0], draws[1])
        systems = [(u < np.array(p)[groups]).astype(float) for u, p in zip(draws, (a, b), strict=True)]
        found = compare(*systems, groups, seed=seed, n_draws=400)
        held.append(found.low <= min(a) - min(b) <= found.high)
        rejected.append(found.p <= 0.05)
    assert np.mean(held) >= 0.91, np.mean(held)
    if a == b:
        assert np.mean(rejected) <= 0.08, np.mean(rejected)
