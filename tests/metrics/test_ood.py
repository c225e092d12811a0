import numpy as np
import pytest

from probe.metrics.ood import NAMES, Detection


def frozen_case():
    (known, unknown), groups = draw(12, 4, 0)
    parts = {
        "rows": Detection(known, unknown),
        "groups": Detection(known, unknown, known_groups=groups, unknown_groups=groups),
    }
    return {kind: [part.interval(name) for name in NAMES] for kind, part in parts.items()}


def draw(n_groups, size, seed, spread=1.0):
    """Scores of known and of unknown rows; rows of a group share most of what they are."""
    rng = np.random.default_rng(seed)
    parts = [mean + spread * np.repeat(rng.normal(size=n_groups), size) + 0.2 * rng.normal(size=n_groups * size)
             for mean in (1.5, 0.0)]  # fmt: skip
    return parts, np.repeat(np.arange(n_groups), size)


def test_copies_of_a_row_in_its_group_move_no_interval():
    (known, unknown), _ = draw(60, 1, 0)
    alone = Detection(known, unknown)
    groups = np.repeat(np.arange(60), 5)
    copied = Detection(np.repeat(known, 5), np.repeat(unknown, 5), known_groups=groups, unknown_groups=groups)
    for name in NAMES:
        a, b = alone.interval(name), copied.interval(name)
        assert a.value == pytest.approx(b.value)
        np.testing.assert_allclose([b.low, b.high], [a.low, a.high], atol=0.04)


def test_each_row_in_a_group_of_its_own_is_as_without_groups():
    (known, unknown), own = draw(80, 1, 1)
    plain = Detection(known, unknown).interval("auroc")
    grouped = Detection(known, unknown, known_groups=own, unknown_groups=own).interval("auroc")
    np.testing.assert_allclose([grouped.low, grouped.high], [plain.low, plain.high], atol=0.02)


def test_intervals_hold_the_value_of_many_groups_where_those_of_rows_do_not():
    (known, unknown), _ = draw(20_000, 1, 99)
    truth = Detection(known, unknown).values["auroc"]
    inside = {"rows": [], "groups": []}
    for seed in range(40):
        (known, unknown), groups = draw(30, 8, seed)
        found = {
            "rows": Detection(known, unknown),
            "groups": Detection(known, unknown, known_groups=groups, unknown_groups=groups),
        }
        for kind, part in found.items():
            interval = part.interval("auroc")
            inside[kind].append(interval.low <= truth <= interval.high)
    assert np.mean(inside["groups"]) >= 0.87
    assert np.mean(inside["rows"]) < 0.75
