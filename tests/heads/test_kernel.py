import re

import numpy as np
import pytest
import torch
from known_bayes import correlated, curved, excess_in_standard_errors
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from probe.core.errors import InputError
from probe.heads.kernel import KernelProbe
from probe.heads.shared import kernel_head
from probe.heads.shared.distance_kernels import squared_distances
from probe.heads.shared.head import Head
from probe.heads.shared.kernel_path import KernelPath


def contract_case():
    return {"widths": (1.0,), "alphas": [0.01]}


def rings(n=300, seed=0):
    """Two classes that no line tells apart: near the middle, and around it."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    return X, (np.linalg.norm(X[:, :2], axis=1) > 1.18).astype(int)


def signs(y):
    return np.where(y[:, None] == np.unique(y), 1.0, -1.0)


@pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
def test_a_row_s_coefficient_is_its_residual_over_the_penalty(kernel):
    """What the gradient is zero for, with intercepts without penalty."""
    X, y = rings()
    head = KernelProbe(kernel=kernel, widths=[0.1], alphas=[0.3]).fit(X, y)
    np.testing.assert_allclose(head.coef_.sum(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(0.3 * head.coef_, signs(y) - head.logits(X), atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "laplacian"])
def test_without_an_intercept_it_is_scikit_learns_kernel_ridge(kernel):
    X, y = rings()
    distances = squared_distances(torch.from_numpy(X), torch.from_numpy(X))
    K = torch.exp(-0.4 * distances)
    path = KernelPath.exact(K, torch.from_numpy(signs(y)), centred=False)
    theirs = KernelRidge(alpha=0.2, kernel="precomputed").fit(K.numpy(), signs(y))
    np.testing.assert_allclose(path.at(np.array([0.2]))[0][:, 0], theirs.dual_coef_, atol=1e-9)


def test_at_a_large_width_it_is_ridge():
    X, y = rings()
    head = KernelProbe(widths=[300.0], alphas=[1e-4]).fit(X, y)
    theirs = Ridge(alpha=1e-4 * (300 * head.median_) ** 2).fit(X, signs(y))
    np.testing.assert_allclose(head.logits(X), theirs.predict(X), atol=5e-4)


def test_all_rows_as_landmarks_are_the_exact_solution():
    X, y = rings()
    exact = KernelProbe(widths=[1.0], alphas=[0.1]).fit(X, y)
    through = KernelProbe(widths=[1.0], alphas=[0.1], max_exact=10, n_landmarks=300).fit(X, y)
    np.testing.assert_allclose(through.logits(X), exact.logits(X), atol=1e-5)


def test_landmarks_are_seeded_and_few_of_them_come_near(monkeypatch):
    monkeypatch.setattr(kernel_head, "BLOCK_VALUES", 4000)
    X, y = rings(1000)
    X_test, y_test = rings(1000, seed=1)
    heads = [KernelProbe(max_exact=100, n_landmarks=80, alphas=5, random_state=seed).fit(X, y) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(heads[0].coef_, heads[1].coef_)
    assert (heads[0].rows_ != heads[2].rows_).any()
    assert heads[0].rows_.shape == (80, 3)
    assert heads[0].score(X_test, y_test) > 0.95


def test_learns_what_features_say_only_together_with_width_and_penalty_of_the_validation_rows(tmp_path):
    X, y = rings()
    head = KernelProbe(alphas=9).fit(X[:200], y[:200], validation=(X[200:], y[200:]))
    assert head.score(*rings(1000, seed=1)) > 0.93
    searched, chosen = head.selection_["searched"], head.selection_["chosen"]
    assert len(searched) == 5 * 9
    assert max(c["score"] for c in searched) == next(
        c["score"] for c in searched if (c["width"], c["alpha"]) == (chosen["width"], chosen["alpha"])
    )
    again = KernelProbe(widths=[chosen["width"]], alphas=[chosen["alpha"]]).fit(X, y)
    assert len(head.rows_) == 300
    # The unit of the width is the median distance of the training rows, which these are part of.
    assert (again.predict(X) == head.predict(X)).mean() > 0.98
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X), head.logits(X))


def test_shift_scale_and_rotation_move_no_score():
    X, y = rings()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    plain = KernelProbe(widths=[1.0], alphas=[0.1]).fit(X, y).logits(X)
    for other in (X + 100, 7 * X, X @ Q):
        found = KernelProbe(widths=[1.0], alphas=[0.1]).fit(other, y).logits(other)
        np.testing.assert_allclose(found, plain, atol=1e-7)


def test_is_near_the_bayes_error_of_gaussians_whether_the_boundary_is_curved_or_not():
    head = KernelProbe(alphas=9, widths=[0.5, 2.0], max_exact=500, n_landmarks=200)
    assert excess_in_standard_errors(head, correlated(), n_train=2000, n_test=4000) < 4
    assert excess_in_standard_errors(head, *curved(), n_train=2000, n_test=4000) < 4


def test_poisoned_test_rows_change_no_fit():
    X, y = rings()
    head = KernelProbe(widths=[1.0], alphas=[0.1]).fit(X, y)
    before = head.coef_.copy()
    head.predict(np.full((3, 3), 1e9))
    np.testing.assert_array_equal(head.coef_, before)


def test_a_kernel_that_memory_cannot_hold_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(kernel_head, "available_bytes", lambda device: 10**9)
    X, y = np.zeros((50_000, 2)), np.arange(50_000) % 2
    with pytest.raises(
        InputError, match=r"50000 rows takes 100.1 GB and cpu has 1.0 GB free: set head.max_exact below"
    ):
        KernelProbe(max_exact=100_000).fit(X, y)
    with pytest.raises(InputError, match=r"20000 landmarks takes 16.1 GB .*: set head.n_landmarks to 46\d\d or less"):
        KernelProbe(n_landmarks=20_000).fit(X, y)


def test_what_the_refusal_for_memory_names_fits(monkeypatch):
    monkeypatch.setattr(kernel_head, "available_bytes", lambda device: 10**6)
    monkeypatch.setattr(kernel_head, "BLOCK_VALUES", 2**10)
    X, y = rings()
    given, words = {"widths": [1.0], "alphas": [0.1]}, []
    for _ in range(2):
        with pytest.raises(InputError, match=r": set head\.(\w+) (?:below|to) (\d+)") as refused:
            KernelProbe(**given).fit(X, y)
        name, below, number = re.search(r"set head\.(\w+) (below|to) (\d+)", str(refused.value)).groups()
        given[name] = int(number) - (below == "below")
        words.append(name)
    assert words == ["max_exact", "n_landmarks"]
    assert KernelProbe(**given).fit(X, y).score(X, y) > 0.9


def test_what_is_no_kernel_or_width_is_refused():
    with pytest.raises(InputError, match=r"kernel is 'rbf', expected gaussian or laplace; widths is \[0\]"):
        KernelProbe(kernel="rbf", widths=[0]).fit(*rings())
    with pytest.raises(InputError, match="max_exact is 0 and n_landmarks 2000, expected whole numbers from 1"):
        KernelProbe(max_exact=0).fit(*rings())


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"widths": [1.0, 4.0], "alphas": [0.1, 1.0]}
