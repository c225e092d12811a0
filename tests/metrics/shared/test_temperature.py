from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from probe.core.errors import InputError
from probe.metrics.evaluate import evaluate
from probe.metrics.shared.temperature import fit_temperature, scale


def drawn(n, sharpness=1.0, seed=0, k=5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 1.5
    return logits * sharpness, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("sharpness", [0.1, 0.5, 1.0, 7.0])
def test_sharpening_is_undone(sharpness):
    assert fit_temperature(*drawn(200_000, sharpness)) == pytest.approx(sharpness, rel=0.01)


def test_it_minimises_the_log_loss_with_half_an_error_more():
    logits, labels = drawn(100, 3.0)
    rows, others = np.arange(100), logits.copy()
    others[rows, labels] = -np.inf

    def loss(t):
        log_p = log_softmax(logits / t, axis=1)
        return -(201 * log_p[rows, labels] + log_p[rows, others.argmax(axis=1)]).sum()

    found = minimize_scalar(loss, (0.5, 5))
    assert fit_temperature(logits, labels) == pytest.approx(found.x, rel=1e-4)


@pytest.mark.parametrize("n", [10, 30, 100])
def test_rows_that_are_all_right_make_the_log_loss_of_others_little_worse_than_the_best(n):
    rng = np.random.default_rng(n)
    labels = rng.integers(0, 5, 20_000)
    logits = rng.normal(size=(20_000, 5))
    logits[np.arange(20_000), labels] += 3.5
    logits *= 3.5
    right = np.flatnonzero(logits.argmax(axis=1) == labels)
    best = evaluate(logits, labels)["log_loss"].value
    for part in right[: 20 * n].reshape(20, n):
        temperature = fit_temperature(logits[part], labels[part])
        assert evaluate(scale(logits, temperature), labels)["log_loss"].value < 3.5 * best


def test_calibration_improves_and_accuracies_stay():
    logits, labels = drawn(4000, 3.0)
    held_out, test = slice(0, 2000), slice(2000, 4000)
    before = evaluate(logits[test], labels[test])
    after = evaluate(scale(logits[test], fit_temperature(logits[held_out], labels[held_out])), labels[test])
    for name in ("log_loss", "ece", "brier"):
        assert after[name].value < before[name].value
    for name in ("top1", "top5", "mean_per_class", "worst_class"):
        assert after[name] == before[name]


def test_rows_of_an_absent_class_play_no_part():
    logits, labels = drawn(500, 2.0)
    logits[:, 2] = -np.inf
    kept = labels != 2
    found = fit_temperature(logits, labels)
    assert found == fit_temperature(logits[kept], labels[kept])
    assert found == pytest.approx(fit_temperature(logits[kept][:, [0, 1, 3, 4]], labels[kept] - (labels[kept] > 2)))


def test_all_right_and_all_wrong_stay_finite():
    assert 0.5 < fit_temperature(np.eye(3) * 5, np.arange(3)) < 5
    assert fit_temperature(np.eye(3) * 5, (np.arange(3) + 1) % 3) == 1e3


def test_nothing_to_fit_on_is_refused():
    with pytest.raises(InputError, match="no row has a finite logit for its label"):
        fit_temperature(np.array([[0.0, -np.inf]]), np.array([1]))


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    return {"temperature": fit_temperature(3 * rng.normal(size=(60, 4)), rng.integers(0, 4, 60))}
