import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from probe.core.errors import InputError
from probe.heads.knn import KNearest
from probe.heads.shared.nearest_numbers import KNearestNumbers


def head(ks=(5,), metrics=("euclidean",), vote="uniform", **more):
    return KNearestNumbers(list(ks), list(metrics), vote, **more)


@pytest.mark.parametrize(("vote", "weights"), [("uniform", "uniform"), ("inverse", "distance")])
def test_equals_scikit_learns_regressor(vote, weights):
    X, Y = load_diabetes(return_X_y=True)
    Y = np.stack([Y, X[:, 0]], axis=1)
    peer = KNeighborsRegressor(7, weights=weights).fit(X[::2], Y[::2])
    found = head([7], vote=vote).fit(X[::2], Y[::2]).predict(X[1::2])
    np.testing.assert_allclose(found, peer.predict(X[1::2]), rtol=1e-9)


def test_the_softmax_of_cosines_weighs_as_its_definition_says():
    X, y = load_linnerud(return_X_y=True)
    found = head([20], ["cosine"], "softmax", temperatures=[0.1]).fit(X, y).predict(X)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    weights = np.exp(unit @ unit.T / 0.1)
    np.testing.assert_allclose(found, weights @ y / weights.sum(axis=1, keepdims=True), rtol=1e-6)


def test_all_rows_as_neighbours_give_the_mean_and_one_gives_the_row_itself():
    X, y = load_diabetes(return_X_y=True)
    np.testing.assert_allclose(head([10_000]).fit(X, y).predict(X), y.mean())
    np.testing.assert_array_equal(head([1]).fit(X, y).predict(X), y)


def test_leaving_one_out_scores_each_row_by_the_others():
    X, y = load_diabetes(return_X_y=True)
    found = head([3, 9]).fit(X, y)
    for one in found.selection_["searched"]:
        others = cross_val_predict(KNeighborsRegressor(one["k"]), X, y, cv=LeaveOneOut())
        assert one["score"] == pytest.approx(-((y - others) ** 2).mean() / y.var())
    assert found.k_ == 9


def test_validation_rows_choose_and_then_vote_too():
    X, y = load_diabetes(return_X_y=True)
    found = head([1, 30]).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    assert found.k_ == 30
    assert found.selection_["on"] == "validation"
    assert len(found.rows_) == 442
    assert len(head([1, 30], refit=False).fit(X[:300], y[:300], validation=(X[300:], y[300:])).rows_) == 300
    np.testing.assert_allclose(found.before_refit().predict(X), head([30]).fit(X[:300], y[:300]).predict(X))


def test_a_prediction_is_the_weighted_mean_of_its_neighbours():
    X, y = load_diabetes(return_X_y=True)
    found = head([4], vote="inverse").fit(X[::2], y[::2])
    rows, weights = found.neighbours(X[1::2])
    np.testing.assert_allclose((weights * y[::2][rows]).sum(axis=1), found.predict(X[1::2]))


def test_the_command_s_head_becomes_this_one_on_numbers_with_its_checks():
    assert type(KNearest(ks=[3]).for_target("number")) is KNearestNumbers
    with pytest.raises(InputError, match="temperatures is"):
        KNearest(temperatures=[0.0]).for_target("number").fit(np.eye(3), np.arange(3.0))
