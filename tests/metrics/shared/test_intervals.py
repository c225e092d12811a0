"""Coverage is counted over simulated test sets whose true value is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from probe.metrics.evaluate import evaluate
from probe.metrics.shared.intervals import resampled_means, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (730, 1000), (1, 1)])
def test_wilson_is_that_of_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_resampled_means_have_the_mean_and_the_standard_error_of_the_column():
    values = np.random.default_rng(0).gamma(2.0, size=(400, 1))
    means = resampled_means(values, 0)
    assert means.shape == (1000, 1)
    assert means.mean() == pytest.approx(values.mean(), rel=0.01)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.1)


def test_columns_share_their_resamples():
    values = np.random.default_rng(0).normal(size=(50, 1))
    means = resampled_means(np.column_stack([values, 1 - values]), 3)
    assert means.sum(axis=1) == pytest.approx(1)


def calibrated(seed, n, sharpness):
    """Labels drawn from the very probabilities that the logits state; then the logits are sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 1.5
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * sharpness, labels


@pytest.fixture(scope="module", params=[1.0, 2.0])
def simulated(request):
    """True values from many rows, and 250 evaluations of 400 rows each; overconfident in the second case."""
    truth = {name: i.value for name, i in evaluate(*calibrated(10**6, 200_000, request.param)).items()}
    if request.param == 1:
        truth |= {"ece": 0.0, "ece_equal_mass": 0.0, "rms_calibration_error": 0.0}
    return truth, [evaluate(*calibrated(seed, 400, request.param), seed=seed) for seed in range(250)]


def test_intervals_cover_the_truth_at_their_level(simulated):
    truth, found = simulated
    covered = {k: np.mean([i[k].low <= truth[k] <= i[k].high for i in found]) for k in truth if k != "worst_class"}
    cautious = ("ece", "ece_equal_mass", "rms_calibration_error", "recall_at_1_fpr")
    for name, share in covered.items():
        assert share >= 0.91, name  # 0.95 less three standard errors
        assert share <= 0.99 or name in cautious, name


def test_overconfidence_is_told_from_chance():
    assert evaluate(*calibrated(1, 400, 2.0))["ece"].low > 0.05
    assert evaluate(*calibrated(1, 400, 1.0))["ece"].low == 0


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    means = resampled_means(np.random.default_rng(0).normal(size=(30, 2)), 0)
    return {"wilson": wilson(7, 30), "resampled": means[:3]}
