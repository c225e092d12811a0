import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.linear_model import LinearRegression

from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.ridge import RidgeProbe


@pytest.mark.parametrize("load", [load_diabetes, load_linnerud])
def test_equals_scikit_learns_least_squares(load):
    X, y = load(return_X_y=True)
    peer, head = LinearRegression().fit(X, y), OrdinaryLeastSquares().fit(X, y)
    np.testing.assert_allclose(head.predict(X), peer.predict(X), rtol=1e-8)
    np.testing.assert_allclose(head.coef_, np.atleast_2d(peer.coef_), rtol=1e-6)


def test_of_all_solutions_it_takes_that_of_smallest_norm():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(10, 40)), rng.normal(size=(10, 2))
    head = OrdinaryLeastSquares().fit(X, Y)
    np.testing.assert_allclose(head.predict(X), Y, atol=1e-10)
    expected = np.linalg.pinv(X - X.mean(axis=0)) @ (Y - Y.mean(axis=0))
    np.testing.assert_allclose(head.coef_, expected.T, atol=1e-12)


def test_a_feature_twice_shares_its_weight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2))
    y = X @ [2.0, 1.0]
    head = OrdinaryLeastSquares().fit(np.column_stack([X, X[:, 0]]), y)
    np.testing.assert_allclose(head.coef_[0], [1, 1, 1], atol=1e-8)


def test_is_the_limit_of_ridge():
    X, y = load_diabetes(return_X_y=True)
    small = RidgeProbe([1e-10]).for_target("number").fit(X, y)
    np.testing.assert_allclose(OrdinaryLeastSquares().fit(X, y).predict(X), small.predict(X), rtol=1e-6)
