from __future__ import annotations

import numpy as np

from probe.leaderboard.ranks import rank
from probe.leaderboard.statistics import Scores, scores


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
