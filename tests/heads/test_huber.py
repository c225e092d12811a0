import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor
from sklearn.preprocessing import StandardScaler

from probe.core.errors import InputError
from probe.heads.huber import HuberRegression
from probe.heads.ols import OrdinaryLeastSquares


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"alphas": [0.001]}


def test_equals_scikit_learns_regressor_on_scaled_rows():
    X, y = load_diabetes(return_X_y=True)
    scaled, unit = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    peer = HuberRegressor(alpha=0.01 * len(X), max_iter=1000, tol=1e-6).fit(scaled, unit)
    found = HuberRegression(alphas=[0.01]).fit(X, y).predict(X)
    np.testing.assert_allclose(found, peer.predict(scaled) * y.std() + y.mean(), rtol=1e-8)


def test_rows_that_are_far_off_move_it_by_a_bounded_part_and_least_squares_at_will():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=500)
    y[:20] += 1000
    assert np.abs(HuberRegression(alphas=[1e-5]).fit(X, y).coef_ - [1, 2, 3]).max() < 0.05
    assert np.abs(OrdinaryLeastSquares().fit(X, y).coef_ - [1, 2, 3]).max() > 1


def test_a_column_that_is_constant_says_nothing_however_large():
    """The mean of 1.7e18 is off by some 256, which would be a feature of that size."""
    X, y = load_diabetes(return_X_y=True)
    X, level = X[:301], 1.7e18 * (1 + 1e-3 / 7)
    rows = np.column_stack([X, np.full(len(X), level)])
    assert rows[:, -1].mean() != level
    head = HuberRegression(alphas=[1e-5]).fit(rows, y[:301])
    moved = np.column_stack([X, np.full(len(X), level * (1 + 1e-6))])
    np.testing.assert_allclose(head.predict(moved), head.predict(rows))


def test_the_unit_of_the_numbers_is_that_of_the_predictions():
    X, y = load_diabetes(return_X_y=True)
    one, other = HuberRegression(alphas=[0.01]).fit(X, y), HuberRegression(alphas=[0.01]).fit(X, 1000 * y + 5)
    np.testing.assert_allclose(other.predict(X), 1000 * one.predict(X) + 5, rtol=1e-5)


def test_validation_rows_choose_the_penalty():
    X, y = load_diabetes(return_X_y=True)
    head = HuberRegression(alphas=[0.001, 100.0]).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    assert head.alpha_ == 0.001
    assert not hasattr(head, "levels_")


def test_an_epsilon_below_one_is_refused():
    with pytest.raises(InputError, match=r"epsilon=0\.5, expected 1 or more"):
        HuberRegression(epsilon=0.5).check_parameters()
