from __future__ import annotations

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.metrics.shared.recovery import gap_recovered


def rows(share: float, n: int = 1000, seeds: int = 3, seed: int = 0) -> np.ndarray:
    """Exactly this share is right under each seed."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(np.arange(n) < round(share * n)) for _ in range(seeds)])


def test_value_is_the_ratio_of_the_gains():
    found = gap_recovered(rows(0.7), rows(0.8), 0.4)
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high


def test_equal_training_sets_recover_all():
    found = gap_recovered(rows(0.8), rows(0.8), 0.1)
    assert found.value == 1
    assert found.low <= 1 <= found.high


def test_value_is_not_clipped():
    assert gap_recovered(rows(0.9), rows(0.5), 0.1).value == pytest.approx(2)
    assert gap_recovered(rows(0.0), rows(0.5), 0.1).value == pytest.approx(-0.25)


def test_interval_is_that_of_the_delta_method():
    """Independent rows and one seed: the variance of a ratio of two means."""
    easy, hard, u, n = rows(0.7, 4000, 1, 1), rows(0.8, 4000, 1, 2), 0.1, 4000
    found = gap_recovered(easy, hard, u)
    gradient = np.array([1 / 0.7, -0.6 / 0.7**2])
    influence = gradient @ np.stack([easy[0] - 0.7, hard[0] - 0.8])
    half = 1.96 * np.sqrt((influence**2).sum()) / n
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


def test_interval_narrows_with_rows():
    wide, narrow = (gap_recovered(rows(0.7, n), rows(0.8, n, seed=1), 0.4) for n in (100, 2000))
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_nothing_learnt_from_hard_rows_leaves_the_ratio_undefined():
    found = gap_recovered(rows(0.6), rows(0.3), 0.4)
    assert np.isnan(found.value)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_other_test_rows_are_refused():
    with pytest.raises(InputError, match=r"shapes \(3, 1000\) and \(3, 900\), expected the same test rows"):
        gap_recovered(rows(0.5), rows(0.5, 900), 0.1)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    right = np.random.default_rng(0).random((5, 40)) < 0.6
    return {"gap_recovered": gap_recovered(right[:2], right[2:], 0.2)}
