import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.shared import jackknife
from probe.heads.shared.ridge_numbers import RidgeNumbers


def by_refits(model, X, y, X_test, level):
    """The definition: as many fits as rows."""
    n, ends = len(X), []
    for i in range(n):
        fit = model.fit(np.delete(X, i, 0), np.delete(y, i))
        residual = abs(y[i] - fit.predict(X[i : i + 1])[0])
        ends.append((fit.predict(X_test) - residual, fit.predict(X_test) + residual))
    low, high = (np.sort(end, axis=0) for end in zip(*ends, strict=True))
    up, down = int(np.ceil(round((n + 1) * level, 9))), int(np.floor(round((n + 1) * (1 - level), 9)))
    return low[down - 1], high[up - 1]


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_one_fit_gives_the_intervals_of_as_many_fits_as_rows(level):
    X, y = load_diabetes(return_X_y=True)
    X, y, X_test = X[:60], np.stack([y[:60], np.sqrt(y[:60])], axis=1), X[60:80]
    low, high = RidgeNumbers([0.3]).fit(X, y).jackknife_plus(X_test, [(X[:20], y[:20]), (X[20:], y[20:])], level)
    for q in range(2):
        expected = by_refits(Ridge(0.3), X, y[:, q], X_test, level)
        np.testing.assert_allclose((low[:, q], high[:, q]), expected, rtol=1e-9)
    found = OrdinaryLeastSquares().fit(X, y[:, 0]).jackknife_plus(X_test, [(X, y[:, :1])], level)
    np.testing.assert_allclose(np.stack(found)[:, :, 0], by_refits(LinearRegression(), X, y[:, 0], X_test, level))


def test_blocks_and_rows_left_out_change_no_more_than_they_say(monkeypatch):
    rng = np.random.default_rng(0)
    X, X_test = rng.normal(size=(2, 400, 5))
    Y = X[:, :1] + rng.normal(size=(400, 1))
    head = RidgeNumbers([1.0]).fit(X, Y)
    every = np.stack(head.jackknife_plus(X_test, [(X, Y)], 0.9))
    monkeypatch.setattr(jackknife, "BLOCK_VALUES", 1000)
    np.testing.assert_allclose(head.jackknife_plus(X_test, [(X, Y)], 0.9), every, rtol=1e-12)
    monkeypatch.setattr(jackknife, "LEAVE_ONE_OUT_ROWS", 200)
    np.testing.assert_allclose(head.jackknife_plus(X_test, [(X[:150], Y[:150]), (X[150:], Y[150:])], 0.9), every,
                               atol=0.5)  # fmt: skip


def test_too_few_rows_or_rows_that_fit_themselves_leave_the_interval_open():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 2)), rng.normal(size=(8, 1))
    low, high = RidgeNumbers([1.0]).fit(X, y).jackknife_plus(X, [(X, y)], 0.9)
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()
    X, y = rng.normal(size=(30, 60)), rng.normal(size=(30, 1))
    low, high = OrdinaryLeastSquares().fit(X, y).jackknife_plus(X, [(X, y)], 0.8)
    assert np.isposinf(high - low).all()


def coverage(n, width, seeds, level=0.9):
    """Share of intervals that hold the number, the penalty chosen on the same rows, over draws of a linear world."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        X, weights = rng.normal(size=(n + 100, width)), rng.normal(size=width)
        Y = X @ weights[:, None] + rng.standard_t(4, size=(n + 100, 1))
        head = RidgeNumbers(9).fit(X[:n], Y[:n])
        low, high = head.jackknife_plus(X[n:], [(X[:n], Y[:n])], level)
        found.append(((low <= Y[n:]) & (high >= Y[n:])).mean())
    return float(np.mean(found))


def test_coverage_is_the_level_over_draws():
    assert abs(coverage(50, 5, 60) - 0.9) < 0.025


@pytest.mark.slow
@pytest.mark.parametrize(("n", "width"), [(30, 5), (50, 40), (60, 120), (200, 20)])
def test_coverage_is_the_level_over_many_draws_of_many_shapes(n, width):
    assert abs(coverage(n, width, 1000) - 0.9) < 0.015
