import numpy as np
import pytest
import torch
from known_bayes import excess_in_standard_errors, isotropic
from oracles import files_of
from safetensors.torch import load_file

from probe.core.errors import InputError
from probe.heads.deep_kernel import DeepKernel, cosines
from probe.heads.knn import KNearest
from probe.heads.shared.deep_kernels import DUALS, log_kernels


def contract_case():
    return {"depths": (1,), "alphas": [0.01]}


def orthant(n, width=4, seed=0):
    """Unit rows without negative numbers, and labels by where they are, a tenth of them wrong."""
    rng = np.random.default_rng(seed)
    X = np.abs(rng.standard_normal((n, width)))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = (X[:, 0] > 0.45).astype(int)
    return X, np.where(rng.random(n) < 0.1, 1 - y, y)


@pytest.mark.parametrize("path", files_of("deep_kernel"), ids=lambda path: path and path.stem)
def test_kernels_and_scores_equal_the_released_ones(path):
    data = load_file(path)
    train, test = data["input.train_points"], data["input.test_points"]
    cases = [name.removesuffix(".kernel_test") for name in data if name.endswith(".kernel_test")]
    assert cases
    for case in cases:
        _, kind, *activation, depth = case.split(".")
        K, new = (
            log_kernels(cosines(train, rows), ".".join(activation), int(depth.removeprefix("depth")))[
                kind == "ntk"
            ].exp()
            for rows in (train, test)
        )
        theirs = data[f"{case}.kernel_train"]
        off = ~torch.eye(len(K), dtype=torch.bool)
        torch.testing.assert_close(K[off], theirs[off], rtol=1e-9, atol=0)
        torch.testing.assert_close(K.diagonal(), theirs.diagonal(), rtol=1e-6, atol=0)  # theirs is rounded
        torch.testing.assert_close(new, data[f"{case}.kernel_test"], rtol=1e-9, atol=0)
        if f"{case}.scores_multiclass" in data:
            found = new.T @ torch.linalg.solve(K, data["input.train_onehot"])
            scores, error = data[f"{case}.scores_multiclass"], 1e-12 * float(data[f"{case}.condition_number"])
            assert float((found - scores).abs().max()) <= max(error, 1e-6) * float(scores.abs().max()), case


def agreement(head, X, y, X_test, expected):
    return float((head.fit(X, y).predict(X_test) == expected).mean())


def test_many_layers_without_a_constant_or_a_linear_part_are_the_nearest_neighbour():
    (X, y), (X_test, _) = orthant(60), orthant(400, seed=1)
    nearest = KNearest(ks=[1], metrics=["cosine"], vote="uniform").fit(X, y).predict(X_test)
    for activation in ("hermite_2", "hermite_3"):
        for depth in (20, 60):  # entries of the kernel are below any number there
            head = DeepKernel(lift=False, activation=activation, depths=[depth], alphas=[1e-6])
            assert agreement(head, X, y, X_test, nearest) == 1


def test_many_layers_with_a_constant_are_the_vote_of_the_majority():
    (X, y), (X_test, _) = orthant(60), orthant(400, seed=1)
    head = DeepKernel(lift=False, kernel="nngp", activation="relu", depths=[500], alphas=[10.0])
    assert agreement(head, X, y, X_test, np.argmax(np.bincount(y))) == 1


def test_many_layers_with_a_linear_part_vote_by_a_power_of_the_distance():
    """Hilbert's kernel: the power -2 log psi'(0) / log psi'(1), 2 for `3d_opt`."""
    (X, y), (X_test, _) = orthant(60, width=3), orthant(400, width=3, seed=1)
    distances = ((X_test[:, None] - X) ** 2).sum(axis=2) ** 0.5
    expected = ((2 * y - 1) / distances**2).sum(axis=1) > 0
    shares = [
        agreement(DeepKernel(lift=False, activation="3d_opt", depths=[depth], alphas=[1e-8]), X, y, X_test, expected)
        for depth in (2, 40)
    ]
    assert shares[1] > 0.95
    assert shares[1] >= shares[0]


@pytest.mark.parametrize("activation", DUALS)
def test_the_kernels_are_those_of_the_recursion_in_plain_numbers(activation):
    """Of psi' the difference quotient of psi."""
    t = torch.linspace(0.5, 0.95, 7, dtype=torch.float64)
    dual, h = DUALS[activation], 1e-7

    def psi(x):
        return dual.value(x, x.log()).exp()

    S = T = t
    for _ in range(2):
        S, T = psi(S), T * (psi(S + h) - psi(S - h)) / (2 * h) + psi(S)
    found = log_kernels(t, activation, 2)
    torch.testing.assert_close(found[0].exp(), S, rtol=1e-9, atol=0)
    torch.testing.assert_close(found[1].exp(), T, rtol=1e-5, atol=0)


def test_depth_and_penalty_are_those_of_the_validation_rows_and_length_of_rows_does_not_matter():
    (X, y), (X_val, y_val) = orthant(150), orthant(150, seed=1)
    head = DeepKernel(lift=False, activation="erf", alphas=5).fit(X, y, validation=(X_val, y_val))
    assert len(head.selection_["searched"]) == 15
    assert head.score(*orthant(500, seed=2)) > 0.75
    scaled = DeepKernel(lift=False, activation="erf", alphas=5).fit(3 * X, y, validation=(0.1 * X_val, y_val))
    np.testing.assert_allclose(scaled.logits(X), head.logits(X), atol=1e-6)


def test_rows_with_an_obtuse_angle_are_refused_and_so_are_settings_that_are_none():
    X, y = orthant(30)
    with pytest.raises(InputError, match=r"a cosine of -\d.\d\d, without lift .* not negative: set head.lift=true, or"):
        DeepKernel(lift=False).fit(X - X.mean(axis=0), y)
    with pytest.raises(InputError, match=r"activation is 'gelu', expected one of relu, .*; depths is \[0\]"):
        DeepKernel(lift=False, activation="gelu", depths=[0]).fit(X, y)


def test_is_near_the_bayes_error_of_gaussians():
    head = DeepKernel(alphas=5)
    assert -4 < excess_in_standard_errors(head, isotropic(), n_train=150, n_test=4000) < 4
