import numpy as np
import pytest
import torch

from probe.heads.linalg import eigen
from probe.heads.linalg.eigen import EigenRows


def rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3


@pytest.mark.parametrize("shape", [(50, 7), (7, 50), (20, 20)])
@pytest.mark.parametrize("scaling", ["none", "standard", "l2"])
def test_inner_products_of_centred_rows_survive_the_rotation(shape, scaling):
    X = rows(*shape)
    expected = X / np.linalg.norm(X, axis=1, keepdims=True) if scaling == "l2" else X
    expected = expected - expected.mean(0)
    expected = expected / expected.std(0) if scaling == "standard" else expected
    rotated = EigenRows(X, scaling=scaling).chunk(slice(0, len(X))).numpy()
    np.testing.assert_allclose(rotated @ rotated.T, expected @ expected.T, atol=1e-9 * np.abs(expected).max() ** 2 * 50)


@pytest.mark.parametrize("shape", [(50, 7), (7, 50)])
def test_the_covariance_of_rotated_rows_is_diagonal(shape):
    features = EigenRows(rows(*shape))
    rotated = features.chunk(slice(0, shape[0])).numpy()
    np.testing.assert_allclose(
        rotated.T @ rotated / shape[0], np.diag(features.eigenvalues.numpy()), atol=1e-9 * features.eigenvalues[0]
    )


@pytest.mark.parametrize("scaling", ["none", "standard"])
@pytest.mark.parametrize("held", [True, False])
def test_logits_are_the_same_before_and_after_unrotate(scaling, held, monkeypatch):
    monkeypatch.setattr(eigen, "HOLD_BYTES", 2**30 if held else 0)
    X = rows(50, 7)
    features = EigenRows(X, scaling=scaling)
    theta = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 8)))
    inside = features.chunk(slice(0, 50)) @ features.enter(theta[:, :-1]).T + theta[:, -1]
    coef, intercept = features.unrotate(theta)
    np.testing.assert_allclose(inside.numpy(), X @ coef.T + intercept, rtol=1e-9)
    np.testing.assert_allclose(features.rotate(coef, intercept).numpy(), theta.numpy(), rtol=1e-9)


def test_a_constant_column_is_not_blown_up_by_standardisation():
    X = rows(50, 3).astype(np.float32)
    X[:, 1] = 0.1
    coef, _ = EigenRows(X, scaling="standard").unrotate(torch.ones(1, 4))
    assert np.abs(coef).max() < 10


def test_coarse_chunks_are_the_rows_to_three_digits(monkeypatch):
    monkeypatch.setattr(eigen, "fast_bfloat16", lambda device: True)
    features = EigenRows(rows(50, 7).astype(np.float32))
    coarse = features.coarse_chunk(slice(0, 50))
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.float(), features.chunk(slice(0, 50)), rtol=2**-8, atol=0)
