import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_wine
from sklearn.metrics import adjusted_rand_score

from probe.core.errors import InputError
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.clusters import cosine_clusters, n_clusters
from probe.heads.subclass import Subclasses


@pytest.mark.parametrize("path", files_of("subclass"), ids=lambda path: getattr(path, "stem", "none"))
def test_clusters_are_the_released_ones_from_the_same_starts(path):
    data = load_file(path)
    X, y, counts = data["input.features"].astype(np.float64), data["input.labels"], data["input.class_counts"]
    released = data["output.kmeans.subclass"]
    assert n_clusters(counts, int(data["hyper.delta_tau"][0])).tolist() == data["output.clusters_per_class"].tolist()
    for k in np.unique(y):
        if (starts := data.get(f"input.kmeans_initial_rows.class{k}")) is not None:
            places, _ = cosine_clusters(X[y == k], starts.astype(np.int64))
            assert adjusted_rand_score(places, released[y == k]) == 1


def long_tailed(seed=0):
    """A large class of three lumps, and a small one between them."""
    rng = np.random.default_rng(seed)
    lumps = np.array([[6, 0], [0, 6], [-6, -6]])
    of = np.arange(600) % 3
    X = np.concatenate([lumps[of] + rng.normal(size=(600, 2)), 2.0 + rng.normal(size=(20, 2))])
    return X, np.repeat([0, 1], [600, 20]), of


def test_one_subclass_per_class_is_the_nearest_mean_or_the_probe():
    X, y = load_wine(return_X_y=True)
    X = X / X.std(axis=0)
    mean, probe = (Subclasses(rule, least=1000, Cs=[0.1]).fit(X[::2], y[::2]) for rule in ("mean", "probe"))
    np.testing.assert_array_equal(mean.predict(X), NearestClassMean().fit(X[::2], y[::2]).predict(X))
    np.testing.assert_allclose(
        probe.predict_proba(X), LinearProbe([0.1]).fit(X[::2], y[::2]).predict_proba(X), atol=1e-3
    )


@pytest.mark.parametrize("rule", ["mean", "probe"])
def test_pieces_tell_apart_what_one_mean_or_plane_does_not(rule):
    X, y, _ = long_tailed()
    X_test, y_test, _ = long_tailed(1)
    peer = NearestClassMean() if rule == "mean" else LinearProbe([1.0])
    scores = [head.fit(X, y).predict(X_test) == y_test for head in (Subclasses(rule, Cs=[1.0]), peer)]
    of_class = [np.mean([right[y_test == k].mean() for k in (0, 1)]) for right in scores]
    assert of_class[0] > of_class[1] + 0.05


def test_lumps_of_a_class_are_found():
    X, _, of = long_tailed()
    places, _ = cosine_clusters(X[:600], np.array([0, 1, 2]))
    assert adjusted_rand_score(places, of) > 0.9


def test_wrong_parameters_are_refused_together():
    with pytest.raises(InputError, match="rule is 'x', expected mean or probe; least is 0, expected 1 or more"):
        Subclasses("x", 0).fit([[0.0], [1.0]], [0, 1])
