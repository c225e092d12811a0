from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from probe.leaderboard import leads, seeds
from probe.leaderboard.leads import Draws, Leads, resample
from probe.leaderboard.pairs import influences_by_seed, pair_law, pair_variances
from probe.leaderboard.ranks import rank
from probe.leaderboard.statistics import Scores, scores, spread


def gather(values: np.ndarray) -> Scores:
    """(R, N) values as scores of seeds 0..R-1."""
    return scores(list(values), None, range(len(values)), values.shape[1])


def bernoulli(seed: int, n_seeds: int, n_rows: int, p: float = 0.8) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(size=(n_seeds, n_rows)) < p).astype(float)


def test_clear_gaps_give_sure_ranks_and_equals_share_them() -> None:
    columns = [[gather(bernoulli(7 * d + s, 1, 1000, p)) for s, p in enumerate((0.95, 0.8, 0.6))] for d in range(2)]
    for ranking in rank(columns):
        assert ranking.low.tolist() == ranking.high.tolist() == [1, 2, 3]
        assert ranking.maybe_best.tolist() == [True, False, False]
    equal = [[gather(bernoulli(s, 1, 1000, 0.8)) for s in range(4)]]
    assert rank(equal)[0].low.tolist() == [1] * 4
    assert rank(equal)[0].high.tolist() == [4] * 4


def test_identical_systems_are_never_told_apart() -> None:
    one = gather(bernoulli(0, 2, 300))
    ranking = rank([[one, one, one]])[0]
    assert ranking.maybe_best.all()
    assert (ranking.low == 1).all()
    assert (ranking.high == 3).all()


def test_ranks_do_not_depend_on_the_order_of_systems() -> None:
    systems = [gather(bernoulli(s, 3, 400, 0.5 + 0.08 * s)) for s in range(6)]
    forward, backward = rank([systems])[0], rank([systems[::-1]])[0]
    assert forward.low.tolist() == backward.low.tolist()[::-1]
    assert forward.maybe_best.tolist() == backward.maybe_best.tolist()[::-1]


def test_systems_with_other_seeds_and_fewer_of_them_are_ranked_together() -> None:
    values = [bernoulli(s, 4, 1000, p) for s, p in enumerate((0.95, 0.8, 0.6))]
    column = [
        scores(list(values[0][:1]), None, [4], 1000),
        scores(list(values[1][:3]), None, [0, 1, 2], 1000),
        scores(list(values[2]), None, [2, 9, 11, 12], 1000),
    ]
    assert rank([column])[0].low.tolist() == [1, 2, 3]
    assert rank([column], higher_is_better=False)[0].low.tolist() == [3, 2, 1]


def test_seeds_that_scatter_widen_the_ranks_unless_all_scatter_alike() -> None:
    def around(p: float, scatter: tuple[float, ...]) -> Scores:
        return gather(np.stack([bernoulli(i, 1, 2000, p + d)[0] for i, d in enumerate(scatter)]))

    up, down, other = (-0.15, 0.0, 0.15), (0.15, 0.0, -0.15), (0.0, 0.15, -0.15)
    alike = [around(p, up) for p in (0.80, 0.75, 0.70)]
    assert rank([alike])[0].high.tolist() == [1, 2, 3]
    apart = [around(p, scatter) for p, scatter in zip((0.80, 0.75, 0.70), (up, down, other), strict=True)]
    assert rank([apart])[0].high.tolist() == [3, 3, 3]


def ranked_in_full(columns: list[list[Scores]], level: float = 0.95, n_resamples: int = 200) -> list[tuple]:
    """`rank` without bounds: every pair's tail, and every lead of every resample."""
    tails, largest = [], []
    for place, column in enumerate(columns):
        by_seed, upper = influences_by_seed(column), np.triu_indices(len(column), 1)
        found = pair_variances(column, by_seed)
        means = np.array([system.value for system in column])
        lead, tail = means[:, None] - means, np.full((len(column), len(column)), 0.5)
        tail[upper] = tail.T[upper] = pair_law(found).spread(found.at(upper)).tail(np.abs(lead[upper]))
        tails.append(np.where(lead > 0, tail, 1 - tail))
        draws = Draws.by_place(len(column), place)
        deviations, errors = resample(by_seed.sum(axis=1), spread(column).added, n_resamples, draws, 0)
        inverse = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0)
        largest.append(((deviations[:, None, :] - deviations[:, :, None]) * inverse).max(axis=2))
    least = float(ndtri((1 + level) / 2))
    all_pairs = float(np.quantile(np.max([of_column.max(axis=1) for of_column in largest], axis=0), level))
    found = []
    for tail, of_column in zip(tails, largest, strict=True):
        better = tail <= ndtr(-max(all_pairs, least))
        one_side = ndtr(-np.maximum(np.quantile(of_column, level, axis=0), least))
        found.append((~(tail <= one_side).any(axis=0), 1 + better.sum(axis=0), len(tail) - better.sum(axis=1)))
    return found


@pytest.mark.parametrize(("n_systems", "n_seeds", "spread_of"), [(40, 1, 0.3), (120, 3, 0.2), (120, 5, 0.05)])
def test_bounds_change_no_rank(n_systems: int, n_seeds: int, spread_of: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "N_ALL", 100)  # what is a part of many pairs is one of few here
    rng = np.random.default_rng(n_systems + n_seeds)
    hard = rng.uniform(size=(1, 1, 150))
    columns = []
    for _ in range(2):
        skill = (
            0.7 + spread_of * rng.uniform(-1, 1, (n_systems, 1, 1)) + 0.02 * rng.normal(size=(n_systems, n_seeds, 1))
        )
        right = (hard + 0.2 * rng.normal(size=(n_systems, n_seeds, 150)) < skill).astype(float)
        right[1] = right[0]
        right[2] = 1
        column = [gather(one) for one in right]
        if n_seeds > 1:
            column[3] = gather(right[3, :2])
        columns.append(column)
    for (maybe_best, low, high), ranking in zip(ranked_in_full(columns), rank(columns, n_resamples=200), strict=True):
        np.testing.assert_array_equal(ranking.low, low)
        np.testing.assert_array_equal(ranking.high, high)
        np.testing.assert_array_equal(ranking.maybe_best, maybe_best)


@pytest.mark.parametrize("n_systems", [5, 40, 200])
def test_a_quantile_is_above_what_it_exceeds(n_systems: int) -> None:
    random = np.random.default_rng(n_systems)
    influences = random.normal(size=(n_systems, 60)) / 60
    influences[1] = influences[0]
    draws = Draws.by_place(n_systems)
    deviations, errors = resample(influences, random.uniform(0, 0.01, n_systems), 300, draws, n_systems)
    found = Leads(deviations, errors, random.normal(size=n_systems))
    ratios = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0)
    for system in range(0, n_systems, max(1, n_systems // 10)):
        largest = np.maximum(((deviations - deviations[:, [system]]) * ratios[system]).max(axis=1), 0)
        true = float(np.quantile(largest, 0.95))
        assert found.quantile_over(system, 0.95) == pytest.approx(true, rel=1e-6)
        told = [found.quantile_is_above(system, 0.95, value * true) for value in (0.5, 0.97, 0.999, 1.001, 1.03, 2.0)]
        assert all(answer is None or answer == (i < 3) for i, answer in enumerate(told))
        assert (told[0], told[-1]) == (True, False)
        assert found.quantile_is_above(system, 0.95, true) is None


@pytest.mark.parametrize("n_together", [0, 64, 10**6])
@pytest.mark.parametrize("n_systems", [2, 33, 70])
def test_the_quantile_of_largest_leads_is_that_of_all_pairs(
    n_systems: int, n_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether tiles are looked at one pair after the other, some together, or all."""
    monkeypatch.setattr(leads, "N_TOGETHER", n_together)
    random = np.random.default_rng(n_systems)
    deviations = random.normal(size=(400, n_systems)).astype(np.float32)
    errors = random.uniform(0.5, 3, (n_systems, n_systems)).astype(np.float32)
    errors = np.maximum(errors, errors.T)
    np.fill_diagonal(errors, 0)
    largest = np.zeros(400, np.float32)
    Leads(deviations, errors, random.normal(size=n_systems)).raise_largest(largest, 0.95)
    inverse = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0)
    every = ((deviations[:, :, None] - deviations[:, None, :]) * inverse).max(axis=(1, 2))
    assert np.quantile(largest, 0.95) == np.quantile(every, 0.95)
    assert (largest <= every).all()
