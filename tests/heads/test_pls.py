import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes, load_linnerud

from probe.core.errors import InputError
from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.pls import PartialLeastSquares


def coupled_columns():
    """Says to `tests/contracts/test_number_heads.py` that columns share their components."""


@pytest.mark.parametrize("n", [1, 2, 3])
def test_equals_scikit_learns_pls(n):
    X, y = load_diabetes(return_X_y=True)
    peer = PLSRegression(n, scale=False).fit(X, y)
    np.testing.assert_allclose(PartialLeastSquares([n]).fit(X, y).predict(X), peer.predict(X), rtol=1e-8)
    X, Y = load_linnerud(return_X_y=True)
    deviations = Y.std(axis=0)
    peer = PLSRegression(n, scale=False, tol=1e-14, max_iter=10_000).fit(X, Y / deviations)
    found = PartialLeastSquares([n]).fit(X, Y).predict(X)
    np.testing.assert_allclose(found, peer.predict(X) * deviations, rtol=1e-6)


def test_all_components_are_least_squares_and_one_points_along_the_covariance():
    X, y = load_diabetes(return_X_y=True)
    head = PartialLeastSquares([10]).fit(X, y)
    np.testing.assert_allclose(head.predict(X), OrdinaryLeastSquares().fit(X, y).predict(X), rtol=1e-8)
    one = PartialLeastSquares([1]).fit(X, y).coef_[0]
    along = (X - X.mean(axis=0)).T @ (y - y.mean())
    np.testing.assert_allclose(one / np.linalg.norm(one), along / np.linalg.norm(along), atol=1e-10)


def test_more_components_than_there_are_count_as_all():
    X, y = load_diabetes(return_X_y=True)
    np.testing.assert_array_equal(PartialLeastSquares([99]).fit(X, y).coef_, PartialLeastSquares([10]).fit(X, y).coef_)
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(8, 30))
    np.testing.assert_allclose(PartialLeastSquares([25]).fit(wide, y[:8]).predict(wide), y[:8], rtol=1e-6)


def test_the_number_of_smallest_error_on_validation_rows_is_fitted_again_on_all():
    X, y = load_diabetes(return_X_y=True)
    head = PartialLeastSquares([1, 2, 5]).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    fits = {n: PLSRegression(n, scale=False).fit(X[:300], y[:300]) for n in (1, 2, 5)}
    errors = {n: ((fit.predict(X[300:]) - y[300:]) ** 2).mean() for n, fit in fits.items()}
    assert head.n_components_ == min(errors, key=errors.get)
    found = [candidate["score"] for candidate in head.selection_["searched"]]
    np.testing.assert_allclose(found, [-e / y[:300].var() for e in errors.values()])
    np.testing.assert_allclose(head.before_refit().predict(X), fits[head.n_components_].predict(X))
    again = PLSRegression(head.n_components_, scale=False).fit(X, y)
    np.testing.assert_allclose(head.predict(X), again.predict(X))


def test_without_validation_rows_a_tenth_chooses():
    X, y = load_diabetes(return_X_y=True)
    head = PartialLeastSquares().fit(X, y)
    assert head.selection_["on"] == "a tenth of the training rows"
    assert not hasattr(PartialLeastSquares([2]).fit(X, y), "selection_")


@pytest.mark.parametrize("bad", [[], [0], [1.5], 0, "3"])
def test_what_are_no_numbers_of_components_is_refused(bad):
    with pytest.raises(InputError, match="are no numbers of components: give a list of them, from 1 on"):
        PartialLeastSquares(bad).check_parameters()
