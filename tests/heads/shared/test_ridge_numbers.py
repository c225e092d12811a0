import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.linear_model import Ridge, RidgeCV

from probe.core.errors import InputError
from probe.heads.ridge import RidgeProbe
from probe.heads.shared import number_moments
from probe.heads.shared.ridge_numbers import RidgeNumbers

ALPHAS = np.logspace(-3, 3, 13)


@pytest.mark.parametrize("per_target", [False, True])
@pytest.mark.parametrize("load", [load_diabetes, load_linnerud])
def test_equals_ridge_cv_of_scikit_learn(load, per_target):
    X, y = load(return_X_y=True)
    Y = y if y.ndim > 1 else np.stack([y, np.sqrt(y)], axis=1)
    peer = RidgeCV(ALPHAS, alpha_per_target=per_target, store_cv_results=True).fit(X, Y)
    head = RidgeNumbers(ALPHAS.tolist(), alpha_per_target=per_target).fit(X, Y)
    np.testing.assert_allclose(head.alpha_, peer.alpha_)
    np.testing.assert_allclose(head.coef_, peer.coef_, rtol=1e-8)
    np.testing.assert_allclose(head.intercept_, peer.intercept_, rtol=1e-8)
    np.testing.assert_allclose(head.squared_errors_, peer.cv_results_.mean(axis=0).T, rtol=1e-8)


@pytest.mark.parametrize("path", files_of("regression_metrics"), ids=lambda path: path.stem if path else "")
@pytest.mark.parametrize(("per_target", "told"), [(False, "ridge.shared"), (True, "ridge")])
def test_equals_the_reference(path, per_target, told):
    given = load_file(path)
    head = RidgeNumbers(given["input.ridge.alphas"].tolist(), alpha_per_target=per_target)
    head.fit(given["input.ridge.X"], given["input.y"])
    name = "alpha_per_target" if per_target else "alpha_shared"
    np.testing.assert_allclose(head.alpha_, given[f"output.ridge.{name}"])
    np.testing.assert_allclose(head.coef_, given[f"output.{told}.coef"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, given[f"output.{told}.intercept"], rtol=1e-8, atol=1e-10)


def test_leave_one_out_errors_are_those_of_fits_without_the_row():
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:30], y[:30]
    head = RidgeNumbers([0.01, 1.0]).fit(X, y)
    for alpha, found in zip([0.01, 1.0], head.squared_errors_[:, 0], strict=True):
        fits = [(i, Ridge(alpha).fit(np.delete(X, i, 0), np.delete(y, i))) for i in range(30)]
        assert found == pytest.approx(np.mean([(y[i] - fit.predict(X[i : i + 1])[0]) ** 2 for i, fit in fits]))


def test_more_features_than_rows_are_fitted_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 100)), rng.normal(size=(20, 2))
    peer = RidgeCV([0.1, 1, 10], store_cv_results=True).fit(X, Y)
    head = RidgeNumbers([0.1, 1, 10]).fit(X, Y)
    np.testing.assert_allclose(head.squared_errors_, peer.cv_results_.mean(axis=0).T, rtol=1e-8)
    np.testing.assert_allclose(head.coef_, peer.coef_, rtol=1e-8, atol=1e-12)


def test_validation_rows_choose_and_are_fitted_on_afterwards():
    X, y = load_diabetes(return_X_y=True)
    head = RidgeNumbers(ALPHAS.tolist()).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    errors = [((y[300:] - Ridge(a).fit(X[:300], y[:300]).predict(X[300:])) ** 2).mean() for a in ALPHAS]
    assert head.alpha_ == ALPHAS[np.argmin(errors)]
    np.testing.assert_allclose(head.squared_errors_[:, 0], errors)
    np.testing.assert_allclose(head.predict(X), Ridge(head.alpha_).fit(X, y).predict(X))
    before = head.before_refit()
    np.testing.assert_allclose(before.predict(X), Ridge(head.alpha_).fit(X[:300], y[:300]).predict(X))


def test_reaches_the_bayes_error_of_a_linear_gaussian_world():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(20, 3))
    X = rng.normal(size=(8000, 20))
    Y = X @ weights + 5 + 0.7 * rng.normal(size=(8000, 3))
    head = RidgeNumbers().fit(X[:4000], Y[:4000])
    errors = ((Y[4000:] - head.predict(X[4000:])) ** 2).mean(axis=0)
    np.testing.assert_allclose(errors, 0.49, rtol=0.06)


def test_float32_products_lose_no_digit_of_numbers_far_from_zero(monkeypatch):
    X, y = load_diabetes(return_X_y=True)
    X, y = (20 * X).astype(np.float32), y + 1e7
    exact = RidgeNumbers([1.0]).fit(X, y).predict(X) - 1e7
    monkeypatch.setattr(number_moments, "FLOAT64_PRODUCTS", 0)
    monkeypatch.setattr("probe.heads.shared.moments.FLOAT64_PRODUCTS", 0)
    np.testing.assert_allclose(RidgeNumbers([1.0]).fit(X, y).predict(X) - 1e7, exact, atol=1e-3)


def test_the_head_named_ridge_fits_classes_and_numbers():
    head = RidgeProbe([1.0, 2.0], alpha_per_target=True)
    assert isinstance(head.for_target("number"), RidgeNumbers)
    assert head.for_target("number").get_params() == head.get_params()
    assert RidgeProbe().for_target("one_class").__class__ is RidgeProbe
    with pytest.raises(InputError, match="alpha_per_target=True is for several columns of numbers"):
        head.fit(np.eye(4), [0, 1, 0, 1])


def test_what_are_no_penalties_is_refused():
    with pytest.raises(InputError, match=r"alphas=\[-1\] are no penalties"):
        RidgeNumbers([-1]).check_parameters()
