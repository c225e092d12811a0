import numpy as np
import pytest

from probe.metrics.design import top_mean
from probe.metrics.evaluate import measure
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores.number import read

NAMES = ("top_tenth", "top_hundredth")


def some(n=200, seed=0, groups=None):
    """Numbers that predictions tell half of."""
    rng = np.random.default_rng(seed)
    predicted, error = rng.normal(size=(2, n, 1))
    if groups is not None:
        predicted, error = (values[: groups.max() + 1][groups] for values in (predicted, error))
    return predicted + error, predicted


def measured(true, predicted, groups=None):
    return measure({"rows": read(predicted, true).in_groups(groups)}, [known()[name] for name in NAMES]).metrics


def test_the_rows_predicted_highest_are_averaged():
    true, predicted = some()
    picked = np.argsort(predicted[:, 0])[-20:]
    found = measured(true, predicted)
    assert list(found) == ["top_tenth"]
    assert found["top_tenth"].value == pytest.approx(true[picked].mean())
    assert list(measured(*some(1000))) == list(NAMES)


def test_a_constant_picks_the_mean_of_the_pool_and_the_truth_picks_its_top():
    true, predicted = some()
    assert measured(true, np.zeros_like(predicted))["top_tenth"].value == pytest.approx(true.mean())
    assert measured(true, true)["top_tenth"].value == pytest.approx(np.sort(true[:, 0])[-20:].mean())


def test_an_increasing_function_of_the_predictions_changes_nothing():
    true, predicted = some()
    assert measured(true, np.exp(predicted) * 7)["top_tenth"] == measured(true, predicted)["top_tenth"]


def test_rows_of_the_metric_have_it_as_their_mean():
    value, slopes = top_mean(0.1, read(*some(300)[::-1]))
    assert (value + 300 * slopes).mean() == pytest.approx(value)


def coverage(n, draws, groups=None):
    """Of 1,000 draws, those whose interval holds the truth, which errors leave what it is of the predictions."""
    density = {"top_tenth": 0.17549833 / 0.1, "top_hundredth": 0.02665214 / 0.01}
    hits = {}
    for seed in range(draws):
        for name, found in measured(*some(n, seed, groups), groups).items():
            hits[name] = hits.get(name, 0) + (found.low <= density[name] <= found.high)
    return {name: 1000 * hit / draws for name, hit in hits.items()}


def test_intervals_cover_the_truth():
    assert {name: hits for name, hits in coverage(200, 200).items() if not 900 <= hits <= 990} == {}


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 1000, 4000])
def test_intervals_cover_the_truth_92_to_97_times_in_100(n):
    assert {name: hits for name, hits in coverage(n, 1000).items() if not 915 <= hits <= 975} == {}


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    return measured(*some(1000))
