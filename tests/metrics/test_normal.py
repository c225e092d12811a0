import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from scipy import stats

from probe.metrics.evaluate import measure
from probe.metrics.normal import NormalScores

RNG = np.random.default_rng(0)


def measured(means, scales, labels, groups=None):
    return measure({"normal": NormalScores(means, scales, labels, groups)}).metrics


@pytest.mark.parametrize("path", files_of("regression_metrics"), ids=lambda path: path.stem if path else "")
def test_values_are_those_of_the_reference(path):
    given = load_file(path)
    found = measured(given["input.prediction"], given["input.sigma"], given["input.y"])
    assert found["crps"].value == pytest.approx(given["output.crps_gaussian_mean"].mean(), rel=1e-10)
    expected = given["output.nll_gaussian_mean"].mean()
    assert found["negative_log_likelihood"].value == pytest.approx(expected, rel=1e-10)


def test_the_score_is_twice_the_pinball_loss_over_all_levels():
    levels = (np.arange(4000) + 0.5) / 4000
    errors = 0.7 - stats.norm.ppf(levels, 0.2, 1.3)
    expected = 2 * np.maximum(levels * errors, (levels - 1) * errors).mean()
    found = measured(*(np.full((3, 1), value) for value in (0.2, 1.3, 0.7)))["crps"].value
    assert found == pytest.approx(expected, abs=1e-4)


def test_without_a_scale_it_is_the_absolute_error_and_the_likelihood_that_of_scipy():
    labels, means = RNG.normal(size=(2, 50, 2))
    tiny = measured(means, np.full((50, 2), 1e-12), labels)
    assert tiny["crps"].value == pytest.approx(np.abs(labels - means).mean())
    scales = RNG.uniform(0.5, 2, (50, 2))
    found = measured(means, scales, labels)["negative_log_likelihood"].value
    assert found == pytest.approx(-stats.norm.logpdf(labels, means, scales).mean())


def test_no_distribution_is_better_than_the_truth():
    labels = RNG.normal(size=(4000, 1))
    for name in ("crps", "negative_log_likelihood"):
        values = {s: measured(0 * labels, 0 * labels + s, labels)[name].value for s in (0.8, 1.0, 1.25)}
        assert min(values, key=values.get) == 1.0


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(1)
    return measured(rng.normal(size=(30, 2)), rng.uniform(0.5, 2, (30, 2)), rng.normal(size=(30, 2)))
