import numpy as np
import pytest

from probe.metrics.shared.influences import FISHER, LOGARITHM, above, concordance, studentized


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(size=12)
    found = studentized(values.mean(), (values - values.mean()) / 12, None)
    half = 2.2009851600829489 * values.std(ddof=1) / np.sqrt(12)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_intervals_stay_on_their_scale():
    derivative = np.array([0.1, -0.1, 0.05, -0.05])
    assert studentized(0.1, derivative, None, LOGARITHM).low > 0
    assert -1 < studentized(0.9, derivative, None, FISHER).low < studentized(0.9, derivative, None, FISHER).high < 1


def test_one_group_leaves_everything_open_and_no_spread_no_width():
    assert studentized(1.0, np.array([0.5, -0.2]), np.array([7, 7])).high == np.inf
    assert studentized(1.0, np.array([0.25, -0.25]), np.array([7, 7])).high == np.inf
    assert studentized(1.0, np.zeros(3), None) == studentized(1.0, np.zeros(3), np.array([0, 0, 1]))
    assert studentized(1.0, np.array([0.1, -0.1]), None, FISHER).high == 1.0


@pytest.mark.parametrize("n", [1, 2, 3, 17, 64, 100])
def test_counts_by_merging_are_those_of_all_pairs(n):
    rng = np.random.default_rng(n)
    x, y, weights = rng.integers(0, 8, n), rng.integers(0, 8, n), rng.normal(size=n)
    pairs = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    np.testing.assert_array_equal(concordance(x, y), pairs.sum(axis=1))
    expected = ((x[None, :] > x[:, None]) + 0.5 * (x[None, :] == x[:, None])) @ weights
    np.testing.assert_allclose(above(x, weights), expected, atol=1e-12)


def frozen_case():
    """A few numbers of this file, for `tests/contracts/test_recipes.py`."""
    values = np.random.default_rng(0).normal(size=9) + 2
    found = studentized(2.0, (values - values.mean()) / 9, np.arange(9) // 2, LOGARITHM)
    return {"interval": found, "concordance": concordance(values.round(0), values[::-1].round(0))}
