from __future__ import annotations

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.metrics.shared.curves import crossing, first_at, rows_to_within

ROWS = np.array([10, 20, 50, 100, 200, 500, 1000, 2000, 5000])


def early(m):
    return 0.7 - 0.5 / m**0.8


def late(m):
    return 0.8 - 2.5 / m**0.6


def truth():
    """Where the two meet, by bisection."""
    low, high = 10.0, 5000.0
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if early(middle) > late(middle) else (low, middle)
    return low


def curves(noise, seed, n_seeds=5):
    rng = np.random.default_rng(seed)
    shape = (n_seeds, len(ROWS))
    return early(ROWS) + noise * rng.normal(size=shape), late(ROWS) + noise * rng.normal(size=shape)


def test_crossing_of_smooth_curves_is_found_between_the_sizes():
    found = crossing(ROWS, *curves(0, 0))
    assert found.first_leads
    assert found.rows.value == pytest.approx(truth(), rel=0.03)
    assert found.rows.low == found.rows.value == found.rows.high


def test_swapping_the_heads_swaps_the_leader_only():
    a, b = curves(0.01, 1)
    one, other = crossing(ROWS, a, b), crossing(ROWS, b, a)
    assert one.rows == other.rows
    assert one.first_leads is not other.first_leads


def test_crossing_does_not_depend_on_the_unit_of_the_score():
    a, b = curves(0.01, 2)
    assert crossing(ROWS, 100 * a, 100 * b).rows.value == pytest.approx(crossing(ROWS, a, b).rows.value)


def test_interval_covers_the_crossing_and_narrows_with_seeds():
    found = [crossing(ROWS, *curves(0.02, seed, 20)).rows for seed in range(40)]
    meeting = crossing(ROWS, *curves(0, 0)).rows.value
    assert np.mean([i.low <= meeting <= i.high for i in found]) >= 0.85
    few = [crossing(ROWS, *curves(0.02, seed, 5)).rows for seed in range(40)]
    assert np.median([i.high - i.low for i in found]) < np.median([i.high - i.low for i in few])


def test_curves_that_do_not_cross_have_no_crossing():
    a, b = curves(0, 0)
    assert crossing(ROWS, a + 1, b) is None
    assert crossing(ROWS, b, a + 1) is None
    assert crossing(ROWS, a, a) is None


def test_noise_where_the_curves_have_met_is_no_crossing_of_its_own():
    gap = np.array([-0.2, -0.1, 0.1, 0.2, 0.2, 0.001, -0.001, 0.001, -0.001])[None]
    assert 20 < crossing(ROWS, gap, 0 * gap).rows.value < 50


def test_crossing_by_noise_alone_has_an_open_interval():
    rng = np.random.default_rng(0)
    gap = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.01, 0, 0, 0]) + 0.01 * rng.normal(size=(5, 9))
    found = crossing(ROWS, gap, 0 * gap)
    assert found is None or found.rows.high == np.inf


def test_resamples_that_never_cross_open_the_interval():
    gap = np.array([[0.1] * 8 + [-0.02], [0.1] * 8 + [0.01], [0.1] * 8 + [-0.2]])
    found = crossing(ROWS, gap, 0 * gap).rows
    assert found.high == np.inf
    assert 2000 < found.value < 5000


def test_one_seed_leaves_the_interval_open():
    a, b = curves(0, 0, 1)
    found = crossing(ROWS, a, b).rows
    assert (found.low, found.high) == (0, np.inf)


def test_rows_to_within_one_percent_of_the_best():
    found = rows_to_within(ROWS, early(ROWS)[None].repeat(3, axis=0))
    level = early(5000) - 0.01
    assert found.value == pytest.approx((0.5 / (0.7 - level)) ** (1 / 0.8), rel=0.05)
    assert (found.low, found.high) == pytest.approx((found.value, found.value))


def test_flat_curve_needs_the_smallest_size_only():
    assert rows_to_within(ROWS, np.full((2, 9), 0.5)).value == 10


def test_level_never_reached_is_infinite():
    assert first_at(ROWS, early(ROWS), 0.9) == np.inf


@pytest.mark.parametrize(
    ("rows", "shape", "text"),
    [
        ([10], (2, 1), r"rows are \[10\], expected at least 2 rising sizes"),
        ([10, 5], (2, 2), r"rows are \[10, 5\], expected at least 2 rising sizes"),
        ([5, 10], (2, 3), r"curves have shapes \[\(2, 3\), \(2, 3\)\], expected \(seeds, 2\)"),
    ],
)
def test_bad_curves_are_refused(rows, shape, text):
    with pytest.raises(InputError, match=text):
        crossing(np.array(rows), np.zeros(shape), np.zeros(shape))


def test_missing_runs_are_refused():
    with pytest.raises(InputError, match=r"a curve holds NaN or inf, .*run what is missing"):
        rows_to_within(ROWS, np.full((2, 9), np.nan))


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_of_rows_needed_hold_the_truth_where_noise_is_large(n_seeds: int):
    rows, rng = np.array([50, 100, 200, 400, 800]), np.random.default_rng(1)
    true = 0.9 - 0.5 * (rows / 20) ** -0.7
    truth = rows_to_within(rows, np.stack([true, true])).value
    noisy = [true + 0.03 * rng.normal(size=(n_seeds, len(rows))) for _ in range(200)]
    covered = np.mean([(found := rows_to_within(rows, c)).low <= truth <= found.high for c in noisy])
    assert covered >= 0.9, covered


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rows, scores = np.array([10, 100, 1000]), np.array([[0.5, 0.7, 0.8], [0.4, 0.75, 0.81]])
    overtaken = crossing(rows, scores, 0.9 * scores[::-1] + 0.07)
    return {"rows_to_within": rows_to_within(rows, scores), "crossing": overtaken}
