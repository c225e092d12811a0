from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from probe.metrics.calibration import calibration, debiased_rms, equal_mass_bins, equal_width_bins, gaps_by_bin
from probe.metrics.scores import score_rows


def drawn(seed, n, sharpness=1.0):
    """Labels drawn from the very probabilities that the logits state; then the logits are sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 1.5
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * sharpness, labels


def test_brier_is_that_of_scikit_learn():
    logits, labels = drawn(0, 200)
    found = calibration(score_rows(logits, labels), 0)["brier"].value
    assert found == pytest.approx(
        brier_score_loss(labels, softmax(logits, axis=1), labels=range(4), scale_by_half=False)
    )


def test_equal_width_bins_are_closed_above():
    assert equal_width_bins(np.array([0.01, 0.2, 0.2001, 1.0]), 5).tolist() == [0, 0, 1, 4]


@pytest.mark.parametrize("n", [3, 15, 100, 101])
def test_equal_mass_bins_follow_the_confidence_and_differ_by_one_row(n):
    confidence = np.random.default_rng(n).random(n)
    bins = equal_mass_bins(confidence)
    assert (np.diff(bins[np.argsort(confidence)]) >= 0).all()
    sizes = np.bincount(bins)
    assert sizes[sizes > 0].max() - sizes[sizes > 0].min() <= 1


def test_equal_mass_error_is_that_of_the_definition():
    logits, labels = drawn(1, 150, 2.0)
    p = softmax(logits, axis=1)
    order = np.argsort(p.max(axis=1))
    gap = (p.max(axis=1) - (p.argmax(axis=1) == labels))[order].reshape(15, 10).mean(axis=1)
    assert calibration(score_rows(logits, labels), 0)["ece_equal_mass"].value == pytest.approx(np.abs(gap).mean())


def squared_errors(seed, n, sharpness):
    """Squares of the debiased and of the plain root mean square over equal-mass bins."""
    scores = score_rows(*drawn(seed, n, sharpness))
    bins = equal_mass_bins(scores.confidence)
    gaps, sizes = gaps_by_bin(scores, bins), np.bincount(bins)
    plain = (sizes / n * (gaps.sum(axis=0) / sizes) ** 2).sum()
    return debiased_rms(gaps, gaps.mean(axis=0, keepdims=True), sizes).value ** 2, plain


@pytest.mark.parametrize("sharpness", [1.0, 1.5, 3.0])
def test_debiased_square_is_right_on_average_where_the_plain_one_is_high(sharpness):
    truth = squared_errors(10**6, 300_000, sharpness)[0]
    debiased, plain = np.mean([squared_errors(seed, 300, sharpness) for seed in range(400)], axis=0)
    assert debiased == pytest.approx(truth, abs=0.0025)  # on calibrated draws the cut at 0 leaves a little
    assert plain - truth > 0.006


def test_one_row_gives_finite_numbers():
    for found in calibration(score_rows(np.array([[2.0, 0.0]]), np.array([0])), 0).values():
        assert np.isfinite([found.value, found.low, found.high]).all()


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    return calibration(score_rows(rng.normal(size=(60, 4)), rng.integers(0, 4, 60)), 0)
