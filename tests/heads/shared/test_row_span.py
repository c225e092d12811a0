import numpy as np
import pytest

from probe.core.errors import InputError
from probe.heads.lda import LinearDiscriminant
from probe.heads.ridge import RidgeProbe
from probe.heads.shared import row_span


def few_rows(n=24, width=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.standard_normal((n, width)) * rng.uniform(0.1, 10, width) + 5 * rng.standard_normal((3, width))[y]
    X[:, 4] = 7.0  # never varies
    X[:, 9] = np.round(X[:, 9])
    return X, y


@pytest.fixture
def both_ways(monkeypatch):
    """Fits a head on few rows by products of features, then by products of rows."""

    def fit(head, X, y, **parts):
        found = []
        for wide in (1000, 10):
            monkeypatch.setattr(row_span, "WIDE", wide)
            found.append(head().fit(X, y, **parts))
            assert wide == 1000 or not hasattr(found[-1], "_moments")
        return found

    return fit


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf", 0.1, 1.0])
@pytest.mark.parametrize("floored", [False, True])
def test_lda_of_few_rows_is_that_of_the_covariance(shrinkage, floored, both_ways):
    X, y = few_rows()
    if floored:  # varies between classes alone
        X[:, 20] = y
    by_features, by_rows = both_ways(lambda: LinearDiscriminant(shrinkage), X, y)
    assert by_rows.shrinkage_ == pytest.approx(by_features.shrinkage_, rel=1e-9)
    largest = np.abs(by_features.coef_).max()
    np.testing.assert_allclose(by_rows.coef_, by_features.coef_, atol=1e-7 * largest)
    test = few_rows(seed=1)[0]
    if floored:
        test[:, 20] = 1
    np.testing.assert_allclose(by_rows.predict_proba(test), by_features.predict_proba(test), atol=1e-6)


def test_lda_of_few_rows_takes_validation_rows_for_training_rows(monkeypatch):
    monkeypatch.setattr(row_span, "WIDE", 10)
    X, y = few_rows()
    parts = LinearDiscriminant().fit(X[:15].astype(np.float32), y[:15], validation=(X[15:].astype(np.float32), y[15:]))
    whole = LinearDiscriminant().fit(X.astype(np.float32), y)
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-9)


@pytest.mark.parametrize("validated", [False, True])
def test_ridge_of_few_rows_is_that_of_the_scatter(validated, both_ways):
    X, y = few_rows()
    parts = {"validation": few_rows(n=6, seed=2)} if validated else {}
    by_features, by_rows = both_ways(lambda: RidgeProbe(alphas=[0.1, 10.0, 1e4]), X, y, **parts)
    assert by_rows.alpha_ == by_features.alpha_
    np.testing.assert_allclose(by_rows.coef_, by_features.coef_, atol=1e-9)


def test_running_sums_that_were_not_kept_are_told_and_a_new_head_is_the_way_out(monkeypatch):
    monkeypatch.setattr(row_span, "WIDE", 10)
    X, y = few_rows()
    head = LinearDiscriminant().fit(X, y)
    with pytest.raises(InputError, match="fitted on few wide rows, has no running sums: give all rows to a new one"):
        head.partial_fit(X, y)
    new = LinearDiscriminant().partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_allclose(new.coef_, head.coef_, atol=1e-6 * np.abs(head.coef_).max())


def test_what_no_shrinkage_needs_is_still_refused(monkeypatch):
    monkeypatch.setattr(row_span, "WIDE", 10)
    with pytest.raises(InputError, match="give no covariance of 60 features"):
        LinearDiscriminant("none").fit(*few_rows())
