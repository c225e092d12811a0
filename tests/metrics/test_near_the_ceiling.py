from __future__ import annotations

import numpy as np
import pytest

from probe.metrics.evaluate import evaluate
from probe.metrics.shared.intervals import Interval, between, mean_of, mean_with_errors, wilson

EASY = {
    "two classes": (3.0, (0.5, 0.5)),
    "two classes, hardly an error": (4.5, (0.5, 0.5)),
    "ten classes, hardly an error": (5.5, (0.1,) * 10),
    "one class of few rows": (3.0, (0.95, 0.05)),
    "four classes of few rows": (3.0, (0.9, 0.04, 0.03, 0.02, 0.01)),
}


def drawn(rng, n, margin, share):
    """Calibrated logits whose own class lies `margin` deviations above the others."""
    labels = rng.choice(len(share), n, p=share)
    logits = rng.normal(size=(n, len(share)))
    logits[np.arange(n), labels] += margin
    return logits * margin + np.log(share), labels


@pytest.mark.parametrize("world", EASY)
@pytest.mark.parametrize(("n", "n_boards"), [(100, 40), pytest.param(1000, 200, marks=pytest.mark.slow)])
def test_intervals_of_one_run_hold_where_errors_are_rare(world, n, n_boards):
    rng = np.random.default_rng(0)
    truth = evaluate(*drawn(rng, 50_000, *EASY[world]))
    found = [evaluate(*drawn(rng, n, *EASY[world])) for _ in range(n_boards)]
    for name in ("top1", "mean_per_class", "log_loss", "brier", "auroc", "average_precision"):
        covered = np.mean([f[name].low <= truth[name].value <= f[name].high for f in found])
        assert covered >= 0.85, (name, covered)


def test_a_perfect_order_has_the_lower_end_of_its_rarer_kind():
    found = between(1.0, np.zeros(200), 12.0, 0.0)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(wilson(12, 12).low)


def test_the_mean_of_independent_shares_is_as_wide_as_their_variances_say():
    parts = [wilson(80, 100)] * 4
    found = mean_of(parts)
    assert found.value == parts[0].value
    assert found.value - found.low == pytest.approx((parts[0].value - parts[0].low) / 2)
    same = mean_of(parts, overlap=4)
    assert (same.low, same.high) == pytest.approx((parts[0].low, parts[0].high))


def test_losses_without_an_error_have_an_upper_end_for_one_that_was_not_seen():
    values, right = np.full(100, 0.01), np.ones(100, dtype=bool)
    found = mean_with_errors(values, right, np.full(100, 4.6))
    assert found.value == pytest.approx(0.01)
    assert found.low == pytest.approx(0.01)
    assert found.high == pytest.approx(0.01 + wilson(0, 100).high * 4.59)


@pytest.mark.parametrize("right", [0, 1])
def test_one_row_gives_finite_ends(right):
    found = mean_with_errors(np.array([0.5]), np.array([right], dtype=bool), np.array([2.0]))
    assert isinstance(found, Interval)
    assert np.isfinite([found.low, found.high]).all()
    assert found.low <= found.value <= found.high
