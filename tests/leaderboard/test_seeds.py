from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from probe.leaderboard.pairs import compare, difference, pair_variances
from probe.leaderboard.ranks import rank
from probe.leaderboard.seeds import MARGIN, Law, Variances, learn
from probe.leaderboard.statistics import Scores, intervals, scores, spread


def gather(values: np.ndarray) -> Scores:
    """(R, N) values as scores of seeds 0..R-1."""
    return scores(list(values), None, range(len(values)), values.shape[1])


def moved(rng: np.random.Generator, moves: np.ndarray, n_rows: int = 500) -> list[Scores]:
    """Systems right on 4 of 5 rows, their seeds moved by (S, R) on top of that."""
    p = np.clip(0.8 + moves, 0, 1)[:, :, None]
    return [gather((rng.uniform(size=(len(system), n_rows)) < system).astype(float)) for system in p]


def variances(seeds: list[float], freedom: int, rest: float = 1.0) -> Variances:
    n = len(seeds)
    return Variances(np.full(n, rest), np.full(n, rest), np.array(seeds, dtype=float), np.full(n, freedom))


@pytest.mark.parametrize("freedom", [1, 2, 5, 40, 400, 999])
def test_seeds_that_scatter_far_alone_give_students_tail(freedom: int) -> None:
    found = variances([1e4], freedom)
    spread = learn(found, 1).spread(found)
    for t in (1.0, 2.5, 4.0):
        assert spread.tail(np.array([t * 100.0]))[0] == pytest.approx(stats.t.sf(t, freedom), rel=0.05, abs=2e-5)


def test_the_margin_is_the_error_with_the_tail_of_the_level() -> None:
    found = variances([0.0, 1.0, 30.0, 1e3], 2)
    spread = learn(found, 4).spread(found)
    for level in (0.5, 0.95, 0.999):
        assert spread.tail(spread.margin(level)) == pytest.approx((1 - level) / 2, rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 40])
def test_the_bounds_around_an_error_are_close_however_far_seeds_may_scatter(freedom: int) -> None:
    found = variances([0.0, 1.0, 30.0, 1e4], freedom)
    spread = learn(found, 4).spread(found)
    for tail in (0.4, 0.025, 1e-7):
        low, high = spread.around(tail, MARGIN)
        assert (high <= low * (1 + MARGIN)).all()
        assert (spread.tail(low * (1 - 1e-9)) >= tail).all()
        assert (spread.tail(high * (1 + 1e-9)) <= tail).all()


def test_few_of_many_pairs_of_two_seeds_are_looked_at_one_by_one() -> None:
    rng = np.random.default_rng(0)
    n = 6000
    found = Variances(rng.uniform(1, 3, n), rng.uniform(0.2, 1, n), rng.chisquare(1, n), np.full(n, 1))
    law, errors = learn(found, 200.0), rng.exponential(3, n)
    with mock.patch.object(Law, "spread", autospec=True, side_effect=Law.spread) as spread:
        told = law.exceeded(found, errors, (0.025, 1e-3))
    assert sum(len(call.args[1].rest) for call in spread.call_args_list) < 0.2 * n
    assert np.array_equal(told, [law.spread(found).tail(errors) <= tail for tail in (0.025, 1e-3)])


def test_systems_that_agree_are_pooled_and_one_that_does_not_keeps_its_own() -> None:
    rng = np.random.default_rng(0)
    alike = variances([*(5 * rng.chisquare(2, 30) / 2), 400.0], 2)
    together = learn(alike, 31, outliers=0.2).spread(alike)
    typical = together.known + together.added
    assert typical[:30].mean() == pytest.approx(5, rel=0.2)
    assert typical[:30].std() < 0.5 * alike.seeds[:30].std()
    assert typical[30] == pytest.approx(400, rel=0.2)
    alone = learn(alike.at([0]), 1).spread(alike.at([0]))
    assert together.margin()[0] < alone.margin()[0]


def test_no_seed_moves_a_variance_below_what_its_rows_say() -> None:
    found = variances([0.0] * 5, 1)
    assert (learn(found, 5).spread(found).added >= 0).all()


def test_a_zero_by_coincidence_is_not_known_and_a_system_that_does_not_vary_is() -> None:
    rng = np.random.default_rng(0)
    column = moved(rng, rng.normal(0, 0.1, (8, 2)))
    row = (rng.uniform(size=500) < 0.8).astype(float)
    swapped = np.stack([row, row])
    swapped[1, [np.flatnonzero(row)[0], np.flatnonzero(row == 0)[0]]] = [0, 1]
    column += [gather(np.stack([row, row])), gather(swapped)]
    assert column[-1].variance.seeds == 0
    added = spread(column).added
    assert added[-2] == 0
    assert added[-1] > 0
    freedom = pair_variances([*column, gather(np.stack([1 - row, 1 - row]))]).freedom
    assert freedom[-3, -1] == 0
    assert (freedom[:-3] == 1).all()


def test_a_column_narrows_the_intervals_of_a_few_seeds() -> None:
    rng = np.random.default_rng(0)
    column = moved(rng, rng.normal(0, 0.03, (12, 3)))
    low, high = intervals(column, proportion=True)
    alone = np.array([np.diff(intervals([system], proportion=True), axis=0)[0, 0] for system in column])
    assert np.mean(high - low) < 0.75 * alone.mean()


def test_seeds_that_move_all_systems_alike_count_as_one_system() -> None:
    rng = np.random.default_rng(0)
    shared = moved(rng, np.repeat([[-0.06, 0.01, 0.05]], 12, axis=0), 2000)
    own = moved(rng, rng.permuted(np.repeat([[-0.06, 0.01, 0.05]], 12, axis=0), axis=1), 2000)
    assert spread(shared).margin().mean() > 1.2 * spread(own).margin().mean()


def test_the_comparison_of_two_systems_gains_from_the_others() -> None:
    rng = np.random.default_rng(2)
    column = moved(rng, np.zeros((10, 3)), 1000)
    alone = compare(column[0], column[1], binary=True)
    together = compare(column[0], column[1], column, binary=True)
    assert together.value == alone.value
    assert together.high - together.low < alone.high - alone.low


def test_two_systems_alone_are_told_apart_the_same_on_a_board_of_two() -> None:
    column = moved(np.random.default_rng(2), np.array([[0.0, 0.03, 0.01], [0.02, 0.0, 0.01]]), 1000)
    alone = compare(*column, binary=True)
    assert compare(*column, column, binary=True) == alone
    more = replace(column[0], seeds=(*column[0].seeds, 7), means=np.append(column[0].means, 0.5))
    more = replace(more, influences=np.concatenate([column[0].influences, column[0].influences[:1]]) * 3 / 4)
    assert compare(more, column[1], binary=True).p == pytest.approx(alone.p)


def test_seeds_that_move_two_systems_in_opposite_directions_do_not_narrow_their_difference() -> None:
    rng, moves = np.random.default_rng(2), np.array([0.05, 0.0, -0.05])
    opposite, apart = (moved(rng, np.stack([moves, sign * moves]), 1000) for sign in (-1, 1))
    for pair in (opposite, apart):
        found = compare(*pair, binary=True)
        half, own = (found.high - found.low) / 2, difference(*pair).means.std(ddof=1) / np.sqrt(3)
        assert half > 2 * max(own, np.sqrt(sum(system.variance.seeds for system in pair)))


def test_what_the_marks_tell_apart_is_different_to_compare_too() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        column = moved(rng, rng.normal(0, 0.02, (3, 3)) + np.array([[0.0], [0.02], [0.04]]))
        best = int(np.argmax([system.value for system in column]))
        for s in np.flatnonzero(~rank([column])[0].maybe_best):
            assert compare(column[s], column[best], column, binary=True).p <= 0.05


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 10, 36, 100])
@pytest.mark.parametrize("n_systems", [1, 2, 7, 50])
@pytest.mark.parametrize("p", [0.8, 1.0])
def test_no_number_of_systems_and_seeds_gives_nan(n_systems: int, n_seeds: int, p: float) -> None:
    rng = np.random.default_rng(0)
    column = [gather((rng.uniform(size=(n_seeds, 30)) < p).astype(float)) for _ in range(n_systems)]
    assert np.isfinite(intervals(column, proportion=True)).all()
    assert np.isfinite(intervals(column)).all()
    ranking = rank([column], n_resamples=50)[0]
    assert (ranking.low <= ranking.high).all()
    found = compare(column[0], column[-1], column, binary=True)
    assert np.isfinite([found.low, found.high, found.p, found.p_mcnemar, found.p_permutation]).all()


@pytest.mark.parametrize(("n_systems", "n_seeds"), [(50, 10), (20, 36)])
def test_a_system_that_is_far_better_is_told_apart_at_hundreds_of_degrees_of_freedom(
    n_systems: int, n_seeds: int
) -> None:
    rng = np.random.default_rng(0)
    moves = rng.normal(0, 0.01, (n_systems, n_seeds))
    moves[0] += 0.15
    ranking = rank([moved(rng, moves)])[0]
    assert ranking.low[0] == ranking.high[0] == 1
    assert ranking.maybe_best.sum() == 1


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [1, 2, 100])
def test_a_thousand_systems_give_no_nan(n_seeds: int) -> None:
    test_no_number_of_systems_and_seeds_gives_nan(1000, n_seeds, 0.8)
