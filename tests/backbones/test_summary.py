import numpy as np
import pytest
import torch

from probe.backbones.summary import SummaryBackbone
from probe.core.errors import InputError


def test_five_statistics_of_every_channel():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])
    found = SummaryBackbone().transform(x).numpy().reshape(5, 2)
    np.testing.assert_allclose(found[:, 0], [2, np.sqrt(2 / 3), 1, 3, 1.5], rtol=1e-6)
    assert found[:, 1].tolist() == [5, 0, 5, 5, 0]


def test_a_single_step_has_no_course():
    assert SummaryBackbone().transform(np.array([[4.0]])).tolist() == [4, 0, 4, 4, 0]


def test_permuting_channels_permutes_the_statistics():
    x = np.random.default_rng(0).normal(size=(9, 3))
    order = [2, 0, 1]
    found, permuted = (SummaryBackbone().transform(v).reshape(5, 3) for v in (x, x[:, order]))
    assert torch.equal(found[:, order], permuted)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_missing_or_infinite_are_refused_by_place(value):
    x = np.ones((4, 2))
    x[3, 1] = value
    with pytest.raises(InputError, match=rf"step 3 of channel 1 of a series is {value}, .* dataset.gaps=interpolate"):
        SummaryBackbone().transform(x)
