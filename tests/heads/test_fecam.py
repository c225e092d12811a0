import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_wine

from probe.core.errors import InputError
from probe.heads.fecam import FeatureCovariances
from probe.heads.ncm import NearestClassMean

SETTINGS = {
    "a1_1_a2_1": {"n_shrinks": 2},
    "a1_1_a2_0": {"alpha2": 0.0, "n_shrinks": 2},
    "ncm": {"covariance": "identity"},
}


@pytest.mark.parametrize("path", files_of("fecam"), ids=lambda path: getattr(path, "stem", "none"))
def test_distances_are_those_of_the_released_code(path):
    data = load_file(path)
    X, y, test = (data[f"input.{name}"] for name in ("train.x", "train.y", "test.x"))
    tried = [(power, name) for power in ("", "tukey_") for name in SETTINGS]
    found = [(power, name) for power, name in tried if f"output.{power}{name}.distances" in data]
    assert found
    for power, name in found:
        head = FeatureCovariances(tukey=0.5 if power else 1.0, **SETTINGS[name]).fit(X, y)
        distances, expected = -head.logits(test), data[f"output.{power}{name}.distances"]
        if name == "ncm":  # by Euclidean or squared distance, in one order
            np.testing.assert_array_equal(distances.argsort(axis=1), expected.argsort(axis=1))
            continue
        np.testing.assert_allclose(distances, expected, rtol=5e-6, atol=1e-8, err_msg=name)
        np.testing.assert_array_equal(head.predict(test), data[f"output.{power}{name}.predictions_top"].ravel())


def test_with_the_identity_it_is_the_nearest_class_mean_on_unit_rows():
    X, y = load_wine(return_X_y=True)
    found = FeatureCovariances(covariance="identity").fit(X[::2], y[::2])
    means = np.array([X[::2][y[::2] == k].mean(axis=0) for k in range(3)])
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    expected = ((unit(X[1::2])[:, None] - unit(means)) ** 2).sum(axis=2)
    np.testing.assert_allclose(-found.logits(X[1::2]), expected, rtol=1e-9, atol=1e-12)
    peer = NearestClassMean(metric="cosine").fit(X[::2], y[::2])
    np.testing.assert_array_equal(found.predict(X[1::2]), peer.predict(X[1::2]))


def test_streaming_equals_fitting_at_once_in_any_order_of_classes():
    X, y = load_wine(return_X_y=True)
    joint = FeatureCovariances().fit(X, y).logits(X)
    for order in ([0, 1, 2], [2, 0, 1]):
        head = FeatureCovariances()
        for k in order:
            head.partial_fit(X[y == k], y[y == k], classes=[0, 1, 2])
        np.testing.assert_allclose(head.logits(X), joint, rtol=1e-6)


def test_beats_a_mean_alone_where_features_go_together_differently():
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 2
    X = rng.normal(size=(2000, 6))
    X[:, 0] = np.where(y == 0, 1, -1) * X[:, 1] + 0.3 * X[:, 0]
    X += 4
    scores = [FeatureCovariances(0.1, 0.0, covariance=kind).fit(X[:1000], y[:1000]).score(X[1000:], y[1000:])
              for kind in ("class", "identity")]  # fmt: skip
    assert scores[0] > scores[1] + 0.1


def test_powers_of_negative_features_are_refused():
    X, y = load_wine(return_X_y=True)
    with pytest.raises(InputError, match=r"a feature is -\S+, powers are taken of features from 0 on"):
        FeatureCovariances(tukey=0.5).fit(X - X.mean(axis=0), y)


def test_wrong_parameters_are_refused_together():
    with pytest.raises(InputError, match=r"tukey is 0, expected a number above 0; covariance is 'x', expected class"):
        FeatureCovariances(tukey=0, covariance="x").fit([[0.0], [1.0]], [0, 1])


def test_a_class_of_one_row_has_the_identity_and_one_to_come_is_never_predicted():
    X, y = load_wine(return_X_y=True)
    head = FeatureCovariances().partial_fit(X[:1], y[:1], classes=[0, 1, 2]).partial_fit(X[y == 1], y[y == 1])
    np.testing.assert_array_equal(head.precisions_[0], np.eye(13))
    assert np.isneginf(head.logits(X)[:, 2]).all()
    assert np.isfinite(head.logits(X)[:, :2]).all()
