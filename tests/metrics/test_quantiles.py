import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from probe.metrics.evaluate import measure
from probe.metrics.quantiles import QuantileScores

RNG = np.random.default_rng(0)
LABELS, QUANTILES, LEVELS = RNG.normal(size=(80, 2)), np.sort(RNG.normal(size=(80, 2, 3)), axis=2), [0.1, 0.5, 0.9]


def measured(labels=LABELS, quantiles=QUANTILES, levels=LEVELS, groups=None):
    return measure({"quantiles": QuantileScores(quantiles, np.array(levels), labels, groups)}).metrics["pinball"]


def test_the_loss_is_that_of_scikit_learn():
    pairs = [(LABELS[:, q], QUANTILES[:, q, k], level) for q in range(2) for k, level in enumerate(LEVELS)]
    expected = np.mean([mean_pinball_loss(true, predicted, alpha=level) for true, predicted, level in pairs])
    assert measured().value == pytest.approx(expected)


def test_twice_the_loss_of_the_median_is_the_absolute_error():
    found = measured(quantiles=QUANTILES[:, :, 1:2], levels=[0.5]).value
    assert 2 * found == pytest.approx(np.abs(LABELS - QUANTILES[:, :, 1]).mean())


def test_no_quantiles_are_better_than_those_of_the_truth():
    labels = RNG.normal(size=(4000, 1))
    truth = np.array([-1.2815515655, 0, 1.2815515655])
    values = {step: measured(labels, np.tile(truth + step, (4000, 1, 1))).value for step in (-0.2, 0.0, 0.2)}
    assert min(values, key=values.get) == 0


def test_rows_of_a_group_count_as_one():
    rows = np.repeat(np.arange(40), 2)
    alone, grouped = measured(LABELS[rows], QUANTILES[rows]), measured(LABELS[rows], QUANTILES[rows], groups=rows)
    assert grouped.high - grouped.low > 1.3 * (alone.high - alone.low)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    return measured()
