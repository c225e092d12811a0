"""A mixture of layers: the weights, what they are learnt from, and what they do not depend on."""

import numpy as np
import pytest

from probe.core.arrays import read_rows
from probe.core.lazy import Layers, RowSubset
from probe.heads.linear import LinearProbe
from probe.heads.shared import layer_mix
from probe.heads.shared.layer_mix import learn_mix, rows_to_learn_from, scales_of
from probe.heads.shared.ridge_numbers import RidgeNumbers


def layers_of(seed=0, n=120, width=6, signals=(0.0, 1.5, 0.0)):
    """Layers of noise that differ in scale and in how much they know of three classes."""
    random = np.random.default_rng(seed)
    y = random.integers(3, size=n)
    centres = random.normal(size=(3, width))
    parts = [
        10.0**place * (random.normal(size=(n, width)) + signal * centres[y]) for place, signal in enumerate(signals)
    ]
    return parts, y


def head(C=1.0):
    return LinearProbe([C], tol=1e-9, device="cpu")


def test_the_layer_that_knows_the_classes_weighs_most_whatever_its_scale():
    for place in range(3):
        parts, y = layers_of(signals=[1.5 * (place == i) for i in range(3)])
        mix = learn_mix(parts, y, head(), 1.0)
        assert mix.weights.argmax() == place
        assert mix.weights[place] > 0.5
        assert mix.weights.sum() == pytest.approx(1)


def test_the_objective_never_rises():
    parts, y = layers_of(signals=(0.5, 0.8, 0.3))
    objectives = learn_mix(parts, y, head(), 1.0).objectives
    assert len(objectives) > 2
    assert (np.diff(objectives) < 1e-8).all()


def test_no_other_weights_on_the_simplex_are_better_for_the_head_that_was_fitted_last():
    parts, y = layers_of(signals=(0.5, 0.8, 0.3))
    mix = learn_mix(parts, y, head(), 1.0)

    def objective(weights):
        X = sum(w * c * (part - part.mean(0)) for w, c, part in zip(weights, mix.scales, parts, strict=True))
        fitted = head().fit(X, y)
        log_loss = -np.log(fitted.predict_proba(X)[np.arange(len(y)), y]).mean()
        return log_loss + np.square(fitted.coef_).sum() / (2 * len(y))

    least = objective(mix.weights)
    assert least == pytest.approx(mix.objectives[-1], abs=1e-6)
    random = np.random.default_rng(0)
    for _ in range(5):
        moved = 0.9 * mix.weights + 0.1 * random.dirichlet(np.ones(3))
        assert objective(moved) > least - 1e-5


def test_the_order_of_the_layers_and_the_unit_of_one_do_not_matter():
    parts, y = layers_of(signals=(0.5, 0.8, 0.3))
    mix = learn_mix(parts, y, head(), 1.0)
    turned = learn_mix(parts[::-1], y, head(), 1.0)
    np.testing.assert_allclose(turned.weights[::-1], mix.weights, atol=2e-3)
    shifted = learn_mix([parts[0] + 7, *parts[1:]], y, head(), 1.0)
    np.testing.assert_allclose(shifted.weights, mix.weights, atol=1e-6)
    scaled = learn_mix([part / 10.0**place for place, part in enumerate(parts)], y, head(), 1.0)
    spread = [float(np.sqrt(part.var(0).sum())) for part in parts]
    np.testing.assert_allclose(mix.scales * spread, np.mean(spread))
    assert scaled.weights.argmax() == mix.weights.argmax()


def test_one_layer_is_that_layer():
    (part,), y = layers_of(signals=(1.0,))
    mix = learn_mix([part], y, head(), 1.0)
    assert mix.shares == [1.0]
    assert Layers({"blocks.0": part}).of({"blocks.0": mix.shares[0]}) is part


def test_a_layer_that_never_changes_keeps_its_unit():
    parts, y = layers_of()
    mix = learn_mix([np.ones_like(parts[0]), parts[1]], y, head(), 1.0)
    assert mix.scales[0] == 1
    assert np.isfinite(mix.weights).all()
    assert (scales_of([np.ones((3, 2))]) == 1).all()


def test_two_classes_and_numbers_have_weights_too():
    parts, y = layers_of()
    two = learn_mix([part[y < 2] for part in parts], y[y < 2], head(), 1.0)
    assert two.weights.argmax() == 1
    numbers = parts[2] @ np.random.default_rng(1).normal(size=(6, 2))
    mix = learn_mix(parts, numbers, RidgeNumbers([1.0], device="cpu"), 1.0)
    assert mix.weights.argmax() == 2
    assert (np.diff(mix.objectives) < 1e-8 * mix.objectives[0]).all()


def test_rows_beyond_memory_are_drawn_with_the_seed(monkeypatch):
    monkeypatch.setattr(layer_mix, "MAX_VALUES", 1000)
    assert len(rows_to_learn_from(90, 10, seed=0)) == 90
    drawn = rows_to_learn_from(500, 10, seed=0)
    assert len(drawn) == len(set(drawn.tolist())) == 100
    np.testing.assert_array_equal(drawn, rows_to_learn_from(500, 10, seed=0))
    assert (drawn != rows_to_learn_from(500, 10, seed=1)).any()


def test_a_mixture_is_computed_as_rows_are_read(tmp_path):
    parts, _ = layers_of(n=20)
    stored = np.memmap(tmp_path / "rows", mode="w+", dtype=np.float32, shape=(20, 6))
    stored[:] = parts[0]
    stored.flush()
    stored = np.memmap(tmp_path / "rows", mode="r", dtype=np.float32, shape=(20, 6))
    mixed = Layers({"a": stored, "b": parts[1].astype(np.float32)}).of({"a": 0.25, "b": 2.0})
    expected = np.float32(0.25) * stored + np.float32(2) * parts[1].astype(np.float32)
    rows = np.array([7, 3, 3])
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed[2:9], expected[2:9])
    np.testing.assert_array_equal(np.asarray(mixed), expected)
    np.testing.assert_array_equal(read_rows(RowSubset(mixed, rows), np.arange(3)), expected[rows])
