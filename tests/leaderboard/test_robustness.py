import numpy as np
import pytest
from scipy.special import expit, logit

from probe.core.errors import InputError
from probe.leaderboard.robustness import effective_robustness
from probe.leaderboard.statistics import scores


def systems(rates, n, rng):
    """Right or wrong rows of systems that are right at these rates, on common rows of differing difficulty."""
    hard = rng.random(n)
    return {f"s{i}": scores([(hard < rate).astype(np.float64)], None, [0], n, 0, 100.0) for i, rate in enumerate(rates)}


RATES = np.array([0.5, 0.6, 0.7, 0.8, 0.9])


def test_rows_on_the_line_have_none_and_one_above_it_has_what_it_is_above():
    rng = np.random.default_rng(0)
    on_line = expit(-1 + 0.8 * logit(RATES))
    found = effective_robustness(systems(RATES, 4_000, rng), systems(on_line, 4_000, rng), n_draws=200)
    np.testing.assert_allclose(found.value, 0, atol=0.05)
    assert found.slope == pytest.approx(0.8, abs=0.12)
    above = on_line.copy()
    above[2] += 0.1
    found = effective_robustness(systems(RATES, 4_000, rng), systems(above, 4_000, rng), n_draws=200)
    assert found.value.argmax() == 2
    assert found.low[2] > 0.05  # it pulls the line towards itself
    assert found.low[2] < found.value[2] < found.high[2]


def test_intervals_hold_the_value_of_many_rows():
    above = expit(-1 + 0.8 * logit(RATES)) + np.array([0, 0.05, 0, -0.05, 0])
    rng = np.random.default_rng(1)
    truth = effective_robustness(systems(RATES, 30_000, rng), systems(above, 30_000, rng), n_draws=1).value
    inside = []
    for _ in range(25):
        found = effective_robustness(systems(RATES, 300, rng), systems(above, 300, rng), n_draws=200)
        inside.append((found.low <= truth) & (truth <= found.high))
    assert np.mean(inside) > 0.85


def test_two_rows_and_rows_of_one_score_have_no_line():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="2 rows were tested on both sets, a line wants 3 or more"):
        effective_robustness(systems(RATES[:2], 50, rng), systems(RATES[:2], 50, rng))
    with pytest.raises(InputError, match="all rows score the same on their own test rows"):
        effective_robustness(systems([0.5] * 3, 50, rng), systems(RATES[:3], 50, rng))
