import numpy as np
import pytest
from scipy.stats import norm

from probe.core.errors import InputError
from probe.datasets.gaussians import bayes_error, load


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0, 6.0, 12.0])
def test_two_classes_have_the_closed_form(distance):
    assert bayes_error(2, distance) == pytest.approx(norm.cdf(-distance / 2), rel=1e-8)


def test_equal_means_leave_chance():
    assert bayes_error(7, 0.0) == pytest.approx(6 / 7)


def test_the_bayes_classifier_has_the_stated_error():
    data = load(n_classes=5, n_features=8, distance=3.0, n_test=200_000)
    part = data.partitions["test"]
    errors = part.rows[:, :5].argmax(axis=1) != part.labels
    assert errors.mean() == pytest.approx(data.notes["bayes_error"], abs=4 * errors.std() / np.sqrt(len(errors)))


def test_means_are_equally_far_and_the_seed_decides():
    rows = load(n_classes=3, n_features=3, distance=5.0, n_train=60_000).partitions["train"]
    means = np.stack([rows.rows[rows.labels == k].mean(axis=0) for k in range(3)])
    gaps = np.linalg.norm(means[[0, 0, 1]] - means[[1, 2, 2]], axis=1)
    np.testing.assert_allclose(gaps, 5.0, atol=0.05)
    assert load(seed=1).fingerprint == load(seed=1).fingerprint != load(seed=2).fingerprint


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_classes": 1}, "n_classes is 1"),
        ({"n_classes": 9, "n_features": 8}, "n_features 8, expected 2 <= n_classes <= n_features"),
        ({"distance": -1.0}, r"distance is -1\.0, expected a finite number"),
        ({"n_train": 3}, r"train \(3 rows\) has no row of 7 of 10 classes"),
    ],
)
def test_impossible_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        load(**options)
