import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from probe.core.errors import InputError
from probe.heads.slda import StreamingDiscriminant


def by_hand(X, y, shrinkage):
    means = np.array([X[y == k].mean(axis=0) for k in np.unique(y)])
    off = X - means[y]
    S = (1 - shrinkage) * off.T @ off / len(X) + shrinkage * np.eye(X.shape[1])
    W = np.linalg.solve(S, means.T).T
    return lambda rows: rows @ W.T - (W * means).sum(axis=1) / 2


@pytest.mark.parametrize("shrinkage", [1e-4, 0.3, 1.0])
def test_equals_the_equation(shrinkage):
    X, y = load_wine(return_X_y=True)
    found = StreamingDiscriminant(shrinkage).fit(X[::2], y[::2]).logits(X[1::2])
    expected = by_hand(X[::2], y[::2], shrinkage)(X[1::2])
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], rtol=1e-6, atol=1e-6)


def test_equals_scikit_learn_without_priors_where_hardly_anything_is_shrunk():
    X, y = load_iris(return_X_y=True)
    peer = LinearDiscriminantAnalysis("lsqr", priors=[1 / 3] * 3).fit(X[::2], y[::2])
    head = StreamingDiscriminant(1e-9).fit(X[::2], y[::2])
    np.testing.assert_allclose(head.predict_proba(X[1::2]), peer.predict_proba(X[1::2]), rtol=1e-4, atol=1e-7)


def test_streaming_gives_what_fitting_at_once_gives_in_any_order_of_classes():
    X, y = load_wine(return_X_y=True)
    X = X.astype(np.float16).astype(np.float32)
    joint = StreamingDiscriminant().fit(X, y).logits(X)
    for order in ([0, 1, 2], [2, 0, 1]):
        head = StreamingDiscriminant()
        for k in order:
            head.partial_fit(X[y == k], y[y == k], classes=[0, 1, 2])
        np.testing.assert_allclose(head.logits(X), joint, rtol=1e-6, atol=1e-6)


def test_a_class_to_come_is_never_predicted():
    X, y = load_wine(return_X_y=True)
    head = StreamingDiscriminant().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert np.isneginf(head.logits(X)[:, 2]).all()


def test_a_frequent_class_has_no_advantage():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1000, 2)), (np.arange(1000) < 50).astype(int)
    X[y == 1, 0] += 2
    assert abs(np.diff(StreamingDiscriminant().fit(X, y).logits(np.array([[1.0, 0.0]])))).item() < 0.5


@pytest.mark.parametrize("shrinkage", [0, -1, 2])
def test_shrinkage_outside_its_range_is_refused(shrinkage):
    with pytest.raises(InputError, match=f"shrinkage is {shrinkage}, expected above 0, up to 1"):
        StreamingDiscriminant(shrinkage).fit([[0.0], [1.0]], [0, 1])
