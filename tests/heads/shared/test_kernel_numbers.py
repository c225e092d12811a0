import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from probe.core.errors import InputError
from probe.heads.kernel import KernelProbe
from probe.heads.shared.distance_kernels import squared_distances
from probe.heads.shared.kernel_numbers import KernelNumbers
from probe.heads.shared.ridge_numbers import RidgeNumbers


def curved(n=300, seed=0, columns=1):
    """Numbers that no line tells."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-3, 3, (n, 2))
    return X, np.stack([np.sin(2 * X[:, 0]) * 10**k + 0.1 * rng.normal(size=n) for k in range(columns)], axis=1)


def test_the_head_named_kernel_fits_classes_and_numbers():
    head = KernelProbe("laplace", widths=[1.0])
    assert isinstance(head.for_target("number"), KernelNumbers)
    assert head.for_target("number").get_params() == head.get_params()
    assert head.for_target("one_class") is head


@pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
def test_equals_kernel_ridge_of_scikit_learn_on_centred_rows(kernel):
    X, Y = curved(80, columns=2)
    head = KernelNumbers(kernel, widths=[0.5], alphas=[0.3]).fit(X, Y)
    squares = squared_distances(torch.from_numpy(X), torch.from_numpy(X)).numpy() / (0.5 * head.median_) ** 2
    K = np.exp(-squares / 2) if kernel == "gaussian" else np.exp(-np.sqrt(squares))
    K = K - K.mean(axis=0) - K.mean(axis=1)[:, None] + K.mean()
    expected = KernelRidge(alpha=0.3, kernel="precomputed").fit(K, Y - Y.mean(axis=0)).predict(K) + Y.mean(axis=0)
    np.testing.assert_allclose(head.predict(X), expected, atol=1e-8)


def test_follows_curves_where_ridge_does_not():
    X, Y = curved()
    X_test, Y_test = curved(seed=1)
    head = KernelNumbers(widths=[0.25, 1.0]).fit(X, Y)
    assert head.selection_["on"] != "validation"
    assert head.score(X_test, Y_test) > 0.95
    assert RidgeNumbers().fit(X, Y).score(X_test, Y_test) < 0.2


def test_width_and_penalty_of_the_smallest_error_in_units_of_each_column_win():
    X, Y = curved(columns=3)
    head = KernelNumbers(widths=[0.25, 4.0], alphas=[1e-3, 10.0]).fit(X[:150], Y[:150], validation=(X[150:], Y[150:]))
    scores = {}
    for entry in head.selection_["searched"]:
        alone = KernelNumbers(widths=[entry["width"]], alphas=[entry["alpha"]]).fit(X[:150], Y[:150])
        errors = ((Y[150:] - alone.predict(X[150:])) ** 2).mean(axis=0) / Y[:150].var(axis=0)
        assert entry["score"] == pytest.approx(-errors.mean())
        scores[entry["width"], entry["alpha"]] = entry["score"]
    assert (head.width_, head.alpha_) == max(scores, key=scores.get)
    both = KernelNumbers(widths=[head.width_], alphas=[head.alpha_]).fit(X, Y)
    assert np.abs(both.predict(X) - head.predict(X)).max() < 0.05 * np.abs(Y).max()


def test_landmarks_are_nearly_as_good_as_all_rows():
    X, Y = curved(600)
    X_test, Y_test = curved(seed=1)
    exact, some = (
        KernelNumbers(widths=[0.5], alphas=[1e-2], max_exact=m, n_landmarks=150).fit(X, Y) for m in (600, 300)
    )
    assert len(some.rows_) == 150
    assert some.score(X_test, Y_test) > exact.score(X_test, Y_test) - 0.02


def test_a_very_wide_kernel_is_a_line():
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    head = KernelNumbers(widths=[300.0], alphas=[1e-5]).fit(X, y)
    line = RidgeNumbers([1e-5 * (300 * head.median_) ** 2]).fit(X, y)
    np.testing.assert_allclose(head.predict(X), line.predict(X), rtol=5e-3)


def test_a_kernel_that_is_none_is_refused():
    with pytest.raises(InputError, match="kernel is 'linear', expected gaussian or laplace"):
        KernelNumbers("linear").fit(*curved(20))
