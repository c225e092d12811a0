import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_wine

from probe.core.errors import InputError
from probe.heads import dfr
from probe.heads.dfr import GroupBalanced
from probe.heads.linear import LinearProbe


def contract_case():
    return {"Cs": (1.0,), "n_subsets": 1}


@pytest.mark.parametrize("path", files_of("dfr"), ids=lambda path: getattr(path, "stem", "none"))
@pytest.mark.parametrize("part", ["train", "val"])
def test_mean_weights_on_the_released_subsets_are_those_of_the_same_problem(path, part, monkeypatch):
    """The released solver penalises the intercept; the file holds its problem without that, on its own subsets."""
    data = load_file(path)
    X, y = data[f"input.{part}.features"].astype(np.float64), data[f"input.{part}.labels"]
    subsets, C = data[f"input.l2.{part}.subset_rows"], float(data[f"output.l2.{part}.chosen_C_w0_w1"][0])
    train = data["input.train.features"].astype(np.float64)
    head, codes = GroupBalanced([C]), y.astype(np.int64)
    head.classes_ = np.unique(y)
    scale = train.mean(axis=0), train.std(axis=0)
    coefs, intercepts = head._means(np.array([C]), X, codes, iter(subsets), scale)
    np.testing.assert_allclose(coefs[0][0], data[f"comparison.l2.{part}.lbfgs_coef_averaged"], atol=1e-3)
    np.testing.assert_allclose(intercepts[0], data[f"comparison.l2.{part}.lbfgs_intercept_averaged"], atol=1e-3)


def test_with_one_group_and_one_draw_it_is_linear():
    """Wine, with as many rows of each class."""
    X, y = load_wine(return_X_y=True)
    kept = np.concatenate([np.flatnonzero(y == k)[:40] for k in range(3)])
    X, y = X[kept], y[kept]
    head = GroupBalanced([0.3], n_subsets=1).fit(X, y, groups=np.zeros(120))
    peer = LinearProbe([0.3], scaling="standard", tol=1e-10).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=2e-3)


def spurious(n_of, seed):
    """The class shows weakly in one feature, the place strongly in another; places go with classes in training."""
    rng = np.random.default_rng(seed)
    y, place = (np.repeat(values, n_of) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
    X = rng.normal(size=(len(y), 5))
    X[:, 0] += 2.5 * y
    X[:, 1] += 5.0 * place
    return X, y, place


def test_the_worst_group_gains_on_what_a_probe_of_all_rows_leaves_it():
    X, y, place = spurious([900, 50, 50, 900], 0)
    X_test, y_test, place_test = spurious([1000] * 4, 1)
    worst = []
    for head, more in ((GroupBalanced(), {"groups": place}), (LinearProbe(), {})):
        right = head.fit(X, y, **more).predict(X_test) == y_test
        worst.append(min(right[(y_test == k) & (place_test == p)].mean() for k in (0, 1) for p in (0, 1)))
    assert worst[0] > worst[1] + 0.1


def test_every_group_has_as_many_rows_in_a_subset():
    groups = np.repeat([0, 1, 2], [50, 7, 20])
    for rows in dfr._subsets(groups, 3, np.random.default_rng(0)):
        assert np.bincount(groups[rows]).tolist() == [7, 7, 7]
        assert len(np.unique(rows)) == 21


def test_a_group_of_one_row_is_refused_by_name():
    X, y = load_wine(return_X_y=True)
    groups = np.array(["field"] * len(y))
    groups[0] = "ridge"
    with pytest.raises(
        InputError, match="group ridge has one row of class 0, and balanced rows would hold one of each"
    ):
        GroupBalanced().fit(X, y, groups=groups)
    with pytest.raises(InputError, match=r"groups has shape \(3,\) for 178 rows"):
        GroupBalanced().fit(X, y, groups=[0, 1, 2])
