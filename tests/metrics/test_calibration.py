from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from probe.metrics.calibration import debiased_rms, mass_gaps
from probe.metrics.evaluate import evaluate, measure
from probe.metrics.shared.bins import N_BINS, equal_mass_bins, equal_width_bins, sums_by_bin
from probe.metrics.shared.scores import score


def drawn(seed, n, sharpness=1.0):
    """Labels drawn from the very probabilities that the logits state; then the logits are sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 1.5
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * sharpness, labels


def test_brier_is_that_of_scikit_learn():
    logits, labels = drawn(0, 200)
    found = evaluate(logits, labels)["brier"].value
    assert found == pytest.approx(
        brier_score_loss(labels, softmax(logits, axis=1), labels=range(4), scale_by_half=False)
    )


@pytest.mark.parametrize("runs", [(), (2,)])
def test_sums_of_no_rows_are_zero(runs):
    assert np.array_equal(sums_by_bin(np.ones((*runs, 0)), np.ones(0, dtype=np.int64), 3), np.zeros((*runs, 3)))


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
    assert evaluate(logits, labels)["ece_equal_mass"].value == pytest.approx(np.abs(gap).mean())


def squared_errors(seed, n, sharpness):
    """Squares of the debiased and of the plain root mean square over equal-mass bins."""
    scores = score(*drawn(seed, n, sharpness))
    bins = equal_mass_bins(scores.confidence)
    gaps, sizes = mass_gaps(scores), np.bincount(bins, minlength=N_BINS)
    plain = (sizes / n * (gaps.sum(axis=0) / sizes) ** 2).sum()
    return debiased_rms(gaps, gaps.mean(axis=0, keepdims=True), sizes).value ** 2, plain


@pytest.mark.parametrize("sharpness", [1.0, 1.5, 3.0])
def test_debiased_square_is_right_on_average_where_the_plain_one_is_high(sharpness):
    truth = squared_errors(10**6, 300_000, sharpness)[0]
    debiased, plain = np.mean([squared_errors(seed, 300, sharpness) for seed in range(400)], axis=0)
    assert debiased == pytest.approx(truth, abs=0.0025)  # on calibrated draws the cut at 0 leaves a little
    assert plain - truth > 0.006


def test_one_row_gives_finite_numbers():
    for found in evaluate(np.array([[2.0, 0.0]]), np.array([0])).values():
        assert np.isfinite([found.value, found.low, found.high]).all()


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    found = evaluate(rng.normal(size=(60, 4)), rng.integers(0, 4, 60))
    names = ("log_loss", "brier", "ece", "ece_equal_mass", "rms_calibration_error")
    tied = evaluate(np.round(rng.normal(size=(60, 2))), rng.integers(0, 2, 60))
    return {name: found[name] for name in names} | {"tied": tied["ece_equal_mass"]}


def test_equal_confidences_share_a_bin_whatever_their_order():
    """All rows are 70 % sure and 70 % are right: calibrated to the last digit."""
    logits = np.log(np.where(np.arange(2) == 0, 0.7, 0.3)) * np.ones((1000, 1))
    labels = (np.arange(1000) >= 700).astype(np.int64)
    for order in (np.arange(1000), np.random.default_rng(0).permutation(1000)):
        found = evaluate(logits[order], labels[order])
        assert found["ece_equal_mass"].value == pytest.approx(0, abs=1e-12)
        assert found["rms_calibration_error"].value == 0


def test_confidences_that_differ_by_rounding_alone_are_equal():
    confidence = np.full(100, 0.7)
    confidence[::2] += 1e-16
    assert len(set(equal_mass_bins(confidence))) == 1


def test_values_of_rows_have_the_calibration_error_as_their_mean():
    measured = measure({"rows": score(*drawn(0, 400, 2.0))})
    for name in ("ece", "ece_equal_mass", "brier", "log_loss"):
        assert measured.rows[name].mean() == pytest.approx(measured.metrics[name].value, abs=1e-12)
    assert "rms_calibration_error" not in measured.rows
