import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression

from probe.core.errors import InputError
from probe.heads.binned import BinnedRegression


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"decays": [1e-3], "n_bins": 8, "max_iter": 30}


def test_with_a_bin_for_each_value_it_is_a_classifier_of_the_values():
    X, y = load_diabetes(return_X_y=True)
    X, codes = (X - X.mean(axis=0)) / X.std(axis=0), np.digitize(y, np.quantile(y, [0.3, 0.7]))
    head = BinnedRegression([1e-2], n_bins=3).fit(X, codes.astype(float))
    peer = LogisticRegression(C=1 / (2e-2 * len(X)), tol=1e-10, max_iter=10_000).fit(X, codes)
    np.testing.assert_allclose(head.probabilities(X)[:, 0], peer.predict_proba(X), atol=1e-4)


def test_a_distribution_of_two_peaks_is_found_where_a_mean_and_a_scale_are_not_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    y = np.where(rng.random(4000) < 0.5, -1, 1) + 0.1 * rng.normal(size=4000)
    found = BinnedRegression([1e-4], n_bins=10).fit(X, y).probabilities(X)[:, 0].mean(axis=0)
    assert found[4:6].sum() < 0.01
    assert abs(found[:4].sum() - 0.5) < 0.05


def test_validation_rows_choose_the_decay_and_quantiles_ascend():
    X, y = load_diabetes(return_X_y=True)
    head = BinnedRegression([1e-3, 10.0]).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    assert [one["decay"] for one in head.selection_["searched"]] == [1e-3, 10.0]
    assert (np.diff(head.quantiles(X), axis=2) >= 0).all()
    low, high = head.interval(X, 0.9)
    assert 0.8 < ((low[:, 0] <= y) & (y <= high[:, 0])).mean() < 1


def test_decays_that_are_none_are_refused():
    with pytest.raises(InputError, match="are no weights of a penalty"):
        BinnedRegression([0.0]).check_parameters()
