import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.linear_tasks import load


def test_numbers_are_linear_in_the_rows_and_only_training_numbers_have_noise():
    data = load(n_features=5, n_tasks=3, noise=2.0, n_train=5000, n_test=50)
    train, test = data.partitions["train"], data.partitions["test"]
    W = np.linalg.lstsq(test.rows.astype(float), test.labels)[0]
    np.testing.assert_allclose(test.rows @ W, test.labels, atol=1e-5)
    np.testing.assert_allclose((W**2).sum(axis=0), 5, rtol=1e-4)
    assert np.var(train.labels - train.rows @ W) == pytest.approx(2, rel=0.05)
    assert data.class_names[0] == "task 0"


def test_the_seed_decides():
    assert load(seed=1, n_train=30).fingerprint == load(seed=1, n_train=30).fingerprint
    assert load(seed=1, n_train=30).fingerprint != load(seed=2, n_train=30).fingerprint


@pytest.mark.parametrize("options", [{"n_features": 0}, {"n_tasks": 0}, {"noise": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=r"expected at least 1, at least 1 and a variance from 0: set dataset.n_feat"):
        load(**options)
