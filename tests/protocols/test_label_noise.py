from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.datasets.shared.in_memory import dataset_of
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise
from probe.protocols.shared.strata import with_strata


def changed(dataset, rate, seed=0):
    return LabelNoise(Full(), rate).split(dataset, seed).train_labels


def test_rate_is_the_share_of_wrong_labels_and_all_others_are_alike(make_dataset):
    dataset = make_dataset([5000] * 4)
    labels, noisy = dataset.partitions["train"].labels, changed(dataset, 0.3)
    wrong = noisy != labels
    assert wrong.mean() == pytest.approx(0.3, abs=0.01)
    assert np.bincount((noisy - labels)[wrong] % 4, minlength=4)[1:] == pytest.approx(2000, rel=0.1)
    assert noisy.dtype == np.int64
    assert set(noisy) == {0, 1, 2, 3}


def test_lower_rates_are_nested_in_higher_ones(make_dataset):
    dataset = make_dataset([300] * 4)
    labels, low, high = dataset.partitions["train"].labels, changed(dataset, 0.1), changed(dataset, 0.5)
    wrong = low != labels
    assert (low[wrong] == high[wrong]).all()
    assert (high != labels).sum() > wrong.sum()


def test_rows_are_those_of_the_wrapped_protocol_and_the_dataset_is_untouched(make_dataset):
    dataset = make_dataset([30] * 4)
    before = dataset.partitions["train"].labels.copy()
    split, plain = LabelNoise(Full(), 0.5).split(dataset, 1), Full().split(dataset, 1)
    for name, rows in plain.parts.items():
        assert split.parts[name].indices.tolist() == rows.indices.tolist()
    assert (dataset.partitions["train"].labels == before).all()


def test_rate_zero_changes_no_label(make_dataset):
    dataset = make_dataset([30] * 4)
    assert (changed(dataset, 0.0) == dataset.partitions["train"].labels).all()


def test_two_classes_swap(make_dataset):
    dataset = make_dataset([50, 50])
    assert set(changed(dataset, 0.4)) == {0, 1}


def test_labels_are_frozen(make_dataset):
    assert digest(changed(make_dataset([400] * 25), 0.2, 3).tolist()) == "90680b38e56008746972431d19418887"


@pytest.mark.parametrize("rate", [-0.1, 0.75, 1, float("nan")])
def test_rate_outside_is_refused(make_dataset, rate):
    text = f"rate is {rate}, expected at least 0 and below 0.75 with the 4 classes of dataset rows"
    with pytest.raises(InputError, match=text):
        LabelNoise(Full(), rate).split(make_dataset([9] * 4), 0)


def test_added_noise_has_its_deviation_and_is_the_same_in_every_amount():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(4000, 2)) * [1, 100]
    data = dataset_of({"train": (rng.normal(size=(4000, 2)), Y), "test": (rng.normal(size=(9, 2)), Y[:9])},
                      target="number", class_names=["a", "b"])  # fmt: skip
    small, large = (LabelNoise(Full(), additive=a).split(with_strata(data), 0).train_labels - Y for a in (0.1, 0.5))
    np.testing.assert_allclose(small.std(axis=0), 0.1 * Y.std(axis=0), rtol=0.05)
    np.testing.assert_allclose(5 * small, large, rtol=1e-6, atol=1e-9)
    assert abs(np.corrcoef(small.T)[0, 1]) < 0.05
    plain = Full().split(with_strata(data), 0)
    split = LabelNoise(Full(), additive=0.1).split(with_strata(data), 0)
    assert all(np.array_equal(split.parts[name].indices, rows.indices) for name, rows in plain.parts.items())


def test_a_negative_deviation_is_refused():
    with pytest.raises(InputError, match=r"additive is -1, expected a number from 0: set protocol\.additive=0\.5"):
        LabelNoise(Full(), additive=-1)
