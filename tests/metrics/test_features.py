import numpy as np
import pytest
import torch

from probe.metrics.evaluate import measure
from probe.metrics.features import FeatureScores
from probe.metrics.shared.spectra import Moments, Spectra, alignment, lidar, power_law, two_nn, uniformity


def rows(n=60, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5 + 0.3


def views(n=30, n_views=4, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 1, d)) + 0.4 * rng.standard_normal((n, n_views, d))


def frozen_case():
    X = rows()
    statistics = {"intrinsic_dimension": two_nn(X), "uniformity": uniformity(X), "lidar": lidar(views()),
                  "alignment": alignment(views())}  # fmt: skip
    spectra = Spectra(Moments.of([X]))
    slopes = spectra.slopes(X)
    statistics |= {name: (value, slopes[:, i]) for i, (name, value) in enumerate(spectra.values.items())}
    return measure({"features": FeatureScores("one_class", np.zeros(60, np.int64), statistics)}).metrics


def of_spectrum(X):
    return Spectra(Moments.of([X])).values


@pytest.mark.parametrize("name", ["rankme", "rankme_of_covariance", "alpha_req", "nesum"])
def test_a_derivative_is_what_a_little_more_of_a_row_changes(name):
    """Weights as copies: 200 of every row, and one more of one of them."""
    X = rows(12, 4)
    spectra = Spectra(Moments.of([X]))
    place = list(spectra.values).index(name)
    slopes = spectra.slopes(X)[:, place]
    assert abs(slopes.sum()) < 1e-9
    many = np.repeat(X, 200, axis=0)
    for i in range(3):
        found = of_spectrum(np.concatenate([many, X[[i]]]))[name] - spectra.values[name]
        assert found * 2401 / 12 == pytest.approx(slopes[i], rel=0.02, abs=1e-4)


def test_moments_are_those_of_all_rows_whatever_the_chunks():
    X = rows() + 1000
    parts = Moments.of([X[:7], X[7:50], X[50:]])
    np.testing.assert_allclose(parts.covariance, np.cov(X.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(parts.mean, X.mean(axis=0), rtol=1e-12)


def test_rotation_and_scale_move_no_measure_and_a_shift_moves_those_of_rows_as_they_are():
    X = rows()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))
    plain = of_spectrum(X)
    for other in (X @ Q, 7 * X):
        assert of_spectrum(other) == pytest.approx(plain, rel=1e-9)
        for function in (two_nn, uniformity):
            assert function(other)[0] == pytest.approx(function(X)[0], rel=1e-9)
        assert alignment(views(d=8) @ Q)[0] == pytest.approx(alignment(views(d=8))[0])
    shifted = of_spectrum(X + 5)
    assert shifted["rankme"] != pytest.approx(plain["rankme"], rel=0.01)
    assert {n: v for n, v in shifted.items() if n != "rankme"} == pytest.approx(
        {n: v for n, v in plain.items() if n != "rankme"}, rel=1e-9
    )


def test_rank_is_the_number_of_directions_where_all_are_used_alike():
    X = np.repeat(np.concatenate([np.eye(6), -np.eye(6)]), 5, axis=0)
    found = of_spectrum(X)
    assert found["rankme"] == pytest.approx(6, abs=1e-4)
    assert found["rankme_of_covariance"] == pytest.approx(6, abs=1e-4)
    assert found["nesum"] == pytest.approx(6)


def test_the_decay_of_a_power_law_is_its_power():
    for power in (0.5, 1.0, 2.0):
        values = torch.arange(1, 129, dtype=torch.float64) ** -power
        assert power_law(values).item() == pytest.approx(power)
        assert power_law(values[:12]).item() == pytest.approx(power)


def test_the_intrinsic_dimension_of_a_plane_is_2_and_copies_take_no_part():
    rng = np.random.default_rng(0)
    X = rng.random((2000, 2)) @ rng.standard_normal((2, 20))
    assert two_nn(X)[0] == pytest.approx(2, abs=0.1)
    twice = np.concatenate([X, X[:100]])
    assert two_nn(twice)[0] == pytest.approx(2, abs=0.15)
    assert (two_nn(twice)[1][:100] == 0).all()


def test_uniformity_and_alignment_are_means_over_pairs():
    X = rows(20)
    u = X / np.linalg.norm(X, axis=1, keepdims=True)
    squares = ((u[:, None] - u) ** 2).sum(axis=2)[np.triu_indices(20, 1)]
    assert uniformity(X)[0] == pytest.approx(np.log(np.exp(-2 * squares).mean()))
    V = views()
    u = V / np.linalg.norm(V, axis=2, keepdims=True)
    pairs = [((u[:, a] - u[:, b]) ** 2).sum(axis=1) for a in range(4) for b in range(a)]
    assert alignment(V)[0] == pytest.approx(np.mean(pairs))
    assert alignment(np.repeat(V[:, :1], 3, axis=1))[0] == pytest.approx(0, abs=1e-12)


def test_lidar_falls_as_views_of_a_row_drift_apart_unevenly_and_its_derivative_sums_to_zero():
    value, slopes = lidar(views())
    assert 1 < value <= 5 + 1e-6
    assert abs(slopes.sum()) < 1e-9
    narrow = views() * np.array([1, 1, 0.01, 0.01, 0.01])
    assert lidar(narrow, delta=0.1)[0] < value


def test_constant_features_give_no_number():
    found = measure({"features": FeatureScores("one_class", np.zeros(5, np.int64), {
        name: (value, np.zeros(5)) for name, value in of_spectrum(np.ones((5, 3)) * 0).items()})})  # fmt: skip
    assert not found.metrics
