import numpy as np
import pytest
from scipy.stats import norm
from sklearn.naive_bayes import GaussianNB

from probe.core.errors import InputError
from probe.datasets.ladder import load


def test_means_and_variances_are_those_of_the_ladder():
    rows = load(n_classes=4, n_features=64).partitions["train"]
    raw = rows.rows * 2.0 + 2.0  # 2^(K - 3)
    for k, mean in enumerate([-1.0, 1.0, 2.0, 4.0]):
        own = raw[rows.labels == k]
        np.testing.assert_allclose(own.mean(axis=0), mean, atol=4.5 * 8 / np.sqrt(len(own)))
        np.testing.assert_allclose(own.std(axis=0), np.repeat([8.0, 1.0], 32), rtol=0.1)
    assert np.bincount(rows.labels).tolist() == [1600] * 4


@pytest.mark.parametrize("width", [2, 4, 10])
def test_two_classes_have_the_bayes_error_of_the_card(width):
    data = load(n_features=width, n_test=50_000)
    train, test = data.partitions["train"], load(n_features=width, n_test=50_000, seed=1).partitions["test"]
    rule = GaussianNB().fit(train.rows, train.labels)
    rule.theta_ = np.array([[-1.0] * width, [1.0] * width])
    rule.var_ = np.tile(np.repeat([float(width), 1.0], [width // 2, width - width // 2]), (2, 1))
    error = 1 - rule.score(test.rows, test.labels)
    truth = norm.cdf(-np.sqrt(2 + 2 * width) / 2)
    assert error == pytest.approx(truth, abs=4 * np.sqrt(truth / 50_000))


def test_the_seed_decides_and_the_name_tells_sizes_apart():
    assert load(n_features=4).fingerprint == load(n_features=4).fingerprint != load(n_features=4, seed=1).fingerprint
    assert load(3, 8).name == "ladder(K=3,n=8)"


def test_too_few_classes_or_features_are_refused():
    with pytest.raises(InputError, match="n_classes is 1 and n_features 100, expected at least 2 of each: set"):
        load(n_classes=1)
