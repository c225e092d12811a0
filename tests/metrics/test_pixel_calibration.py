"""Losses of pixels, by the properties that they must have."""

import numpy as np
import pytest
from scipy.special import log_softmax

from probe.metrics.evaluate import measure
from probe.metrics.pixel_calibration import PixelLosses, ece, log_loss, of_pixels

K, N = 4, 30


def images(seed=0):
    """Of each of N images the log-probabilities (K, n) of its pixels and their classes, drawn from them."""
    random = np.random.default_rng(seed)
    for n in random.integers(5, 60, N):
        log_p = log_softmax(2 * random.standard_normal((K, n)), axis=0)
        yield log_p.astype(np.float32), (np.exp(log_p).cumsum(0) < random.random(n)).sum(0).clip(max=K - 1)


def scored(given, groups=None):
    table = np.array([of_pixels(log_p, labels) for log_p, labels in given])
    return PixelLosses(table[:, 0], table[:, 2:], table[:, 1].astype(int), groups)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    found = measure({"scaled": scored(images())})
    return {"metrics": found.metrics, "rows": found.rows["scaled_pixel_log_loss"][:5]}


def test_every_pixel_counts_alike_whatever_image_it_is_of():
    given = [*images()]
    log_p, labels = (np.concatenate(parts, axis=-1) for parts in zip(*given, strict=True))
    assert log_loss(scored(given))[0] == pytest.approx(-log_p[labels, np.arange(len(labels))].mean(), rel=1e-6)
    assert ece(scored(given))[0] == pytest.approx(ece(scored([(log_p, labels)]))[0])


def test_probabilities_that_are_true_have_no_calibration_error_and_sure_ones_have_one():
    true = [*images()]
    sure = [(log_softmax(3 * log_p, axis=0), labels) for log_p, labels in true]
    found = measure({"scaled": scored(true)}).metrics
    assert found["scaled_pixel_ece"].value < 0.06 < ece(scored(sure))[0]
    assert log_loss(scored(true))[0] < log_loss(scored(sure))[0]
    assert all(one.low <= one.value <= one.high for one in found.values())


def test_a_class_that_no_head_knows_costs_what_a_row_of_it_does():
    log_p = np.array([[0.0], [-np.inf]], np.float32)
    assert of_pixels(log_p, np.array([1]))[0] == pytest.approx(36.04, abs=0.01)
    assert of_pixels(log_p[:, :0], np.empty(0, int)).tolist() == [0.0] * 17


@pytest.mark.parametrize("statistic", [log_loss, ece])
def test_the_derivative_is_that_of_the_weight_of_an_image(statistic):
    scores = scored(images())
    value, slopes = statistic(scores)
    assert slopes.sum() == pytest.approx(0, abs=1e-9)
    weight = np.ones(N)
    weight[3] += 1e-6
    heavier = PixelLosses(weight * scores.losses, weight[:, None] * scores.gaps, scores.pixels * weight)
    assert (statistic(heavier)[0] - value) / 1e-6 == pytest.approx(slopes[3], rel=1e-3, abs=1e-8)


def test_images_of_a_film_are_resampled_together():
    given = [*images()]
    alone, films = (measure({"scaled": scored(given, groups)}).metrics for groups in (None, np.arange(N) // 10))
    name = "scaled_pixel_log_loss"
    assert alone[name].value == films[name].value
    assert films[name] != alone[name]
