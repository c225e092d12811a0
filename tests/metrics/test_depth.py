"""Metrics of maps of numbers, against plain NumPy image by image, and by the properties that they must have."""

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.core.targets.number_map import NumberMap
from probe.metrics.depth import mean, silog
from probe.metrics.evaluate import measure
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import restored, score
from probe.metrics.shared.scores.number_map import ImageErrors, aligned


def scenes(n=30, seed=0, shape=(7, 9)):
    """True and predicted depths; a tenth of the pixels has no label, in some images most."""
    random = np.random.default_rng(seed)
    true = random.uniform(1, 10, size=(n, *shape))
    predicted = true * np.exp(0.2 * random.standard_normal(true.shape) + 0.1 * random.standard_normal((n, 1, 1)))
    true[random.random(true.shape) < random.choice([0.1, 0.8], size=(n, 1, 1))] = np.nan
    return true.astype(np.float32), predicted


def scored(true, predicted, positive=True):
    labels = np.array([[np.nanmean(one, dtype=np.float64), np.isfinite(one).sum()] for one in true])
    target = NumberMap("m", 0.001) if positive else NumberMap()
    errors = [ImageErrors.of(p, d, target) for p, d in zip(predicted, true, strict=True)]
    return score(errors, labels, "number_map")


def values(scores):
    return {name: found.value for name, found in measure({"rows": scores}).metrics.items()}


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    scores = scored(*scenes(12))
    found = measure({"rows": scores})
    grouped = measure({"rows": scores.in_groups(np.arange(12) // 3)})
    return {"metrics": found.metrics, "rows": found.rows["abs_rel"][:5], "groups": grouped.metrics["delta_1"]}


def test_metrics_are_those_of_numpy_averaged_over_the_images():
    """As the published evaluations have them, formula by formula."""
    true, predicted = scenes()
    wanted = {
        name: [] for name in ("image_rmse", "abs_rel", "rmse_log", "log10", "silog", "delta_1", "delta_2", "delta_3")
    }
    for d, p in zip(true.astype(np.float64), predicted, strict=True):
        p, d = p[~np.isnan(d)], d[~np.isnan(d)]
        wanted["image_rmse"].append(np.sqrt(((d - p) ** 2).mean()))
        wanted["abs_rel"].append((np.abs(d - p) / d).mean())
        wanted["rmse_log"].append(np.sqrt(((np.log(d) - np.log(p)) ** 2).mean()))
        wanted["log10"].append(np.abs(np.log10(d) - np.log10(p)).mean())
        wanted["silog"].append(np.std(np.log(p) - np.log(d)))
        for k in (1, 2, 3):
            wanted[f"delta_{k}"].append((np.maximum(d / p, p / d) < 1.25**k).mean())
    found = values(scored(true, predicted))
    found = {name: value for name, value in found.items() if not name.startswith("aligned")}
    assert found.pop("pixel_rmse") == pytest.approx(np.sqrt(np.nanmean((true - predicted) ** 2)))
    assert found == {name: pytest.approx(np.mean(of_images)) for name, of_images in wanted.items()}


def test_a_perfect_prediction_has_no_error_and_all_shares():
    true, _ = scenes()
    found = values(scored(true, np.nan_to_num(true, nan=3.0).astype(np.float64)))
    assert {name for name, value in found.items() if value == 1} == {"delta_1", "delta_2", "delta_3", "aligned_delta_1"}
    assert all(value == pytest.approx(0, abs=1e-9) for name, value in found.items() if "delta" not in name)


def test_what_is_predicted_where_there_is_no_label_moves_nothing():
    true, predicted = scenes()
    poisoned = np.where(np.isnan(true), 1e30, predicted)
    assert values(scored(true, poisoned)) == values(scored(true, predicted))


def test_predictions_count_within_the_range():
    true, predicted = scenes()
    target = NumberMap("m", 2.0, 8.0)
    for d, p in zip(true, predicted, strict=True):
        one, other = ImageErrors.of(p, d, target), ImageErrors.of(np.clip(p, 2, 8), d, target)
        assert one.means[0] == other.means[0]
        assert one.means[2:9] == other.means[2:9]


def test_a_scale_and_a_shift_of_each_image_leave_what_is_aligned():
    true, predicted = scenes()
    random = np.random.default_rng(1)
    scale, shift = random.uniform(0.5, 2, size=(30, 1, 1)), random.uniform(0, 5, size=(30, 1, 1))
    one, other = (values(scored(true, p)) for p in (predicted, scale * predicted + shift))
    for name in ("aligned_rmse", "aligned_abs_rel", "aligned_delta_1"):
        assert one[name] == pytest.approx(other[name])
    assert one["aligned_rmse"] < one["image_rmse"]


def test_rounding_is_not_aligned():
    true, predicted = np.array([1.0, 5.0] * 20), np.float32(2.3) + np.float32(1e-7) * np.tile(np.float32([1, 3]), 20)
    np.testing.assert_allclose(aligned(predicted.astype(np.float64), true), 3.0)
    np.testing.assert_allclose(aligned(2.3 + 1e-3 * true, true), true)


def test_aligned_errors_are_those_of_least_squares():
    true, predicted = scenes()
    d, p = (part[3][np.isfinite(true[3])].astype(np.float64) for part in (true, predicted))
    design = np.stack([p, np.ones_like(p)], axis=1)
    q = design @ np.linalg.lstsq(design, d, rcond=None)[0]
    found = ImageErrors.of(predicted[3], true[3], NumberMap())
    assert found.means[1] == pytest.approx(np.mean((q - d) ** 2))
    flat = ImageErrors.of(np.ones_like(predicted[3]), true[3], NumberMap())
    assert flat.means[1] == pytest.approx(d.var())


def test_one_factor_for_all_numbers_of_an_image_leaves_silog():
    true, predicted = scenes()
    factors = np.random.default_rng(1).uniform(0.5, 2, size=(len(true), 1, 1))
    one, other = (mean(silog, scored(true, p))[0] for p in (predicted, factors * predicted))
    assert one == pytest.approx(other)


def test_silog_and_rmse_log_by_hand():
    """Two pixels a factor e too far and one right: g = 1, 1, 0."""
    true, predicted = np.ones((1, 1, 3)), np.array([[[np.e, np.e, 1.0]]])
    found = values(scored(np.concatenate([true, true]), np.concatenate([predicted, predicted])))
    assert found["silog"] == pytest.approx(np.sqrt(2 / 3 - 4 / 9))
    assert found["rmse_log"] == pytest.approx(np.sqrt(2 / 3))
    assert found["delta_3"] == pytest.approx(1 / 3)


def test_images_count_alike_and_pixels_in_pixel_rmse():
    true = np.full((2, 1, 4), np.nan)
    true[0, 0, 0], true[1] = 1.0, 1.0
    predicted = np.stack([np.full((1, 4), 3.0), np.ones((1, 4))])
    found = values(scored(true, predicted))
    assert found["image_rmse"] == pytest.approx(1.0)
    assert found["pixel_rmse"] == pytest.approx(np.sqrt(4 / 5))


def test_numbers_that_need_not_be_positive_have_squared_errors_alone():
    true, predicted = scenes()
    assert set(values(scored(true - 5, predicted - 5, positive=False))) == {"image_rmse", "pixel_rmse", "aligned_rmse"}


def test_scores_come_again_from_what_a_run_keeps_and_rows_average_to_the_metric():
    scores = scored(*scenes())
    found, again = (measure({"rows": one}) for one in (scores, restored(scores.arrays(), "number_map")))
    assert found.metrics == again.metrics
    for name, rows in found.rows.items():
        assert rows.mean() == pytest.approx(found.metrics[name].value), name
        assert known()[name].needs


def test_the_derivative_of_pixel_rmse_is_what_dropping_an_image_shows():
    scores = scored(*scenes(200))
    rows = measure({"rows": scores}).rows["pixel_rmse"]
    whole = values(scores)["pixel_rmse"]
    without = [values(scored(*(part[np.arange(200) != i] for part in scenes(200))))["pixel_rmse"] for i in range(3)]
    np.testing.assert_allclose(without, whole - (rows[:3] - whole) / 199, atol=2e-4)


def test_intervals_hold_the_scores_of_the_population():
    """Over 200 test sets of 60 images, drawn from 2,000 of differing quality."""
    true, predicted = scenes(2000, seed=3, shape=(3, 3))
    true = np.where(np.isnan(true), 2.0, true)
    whole, random, held = (
        scored(true, predicted),
        np.random.default_rng(0),
        {"image_rmse": 0, "delta_1": 0, "pixel_rmse": 0},
    )
    wanted = values(whole)
    for _ in range(200):
        rows = random.integers(0, 2000, 60)
        part = type(whole)(whole.labels[rows], whole.predicted[rows], whole.errors[rows])
        metrics = measure({"rows": part}, [known()[name] for name in held]).metrics
        for name in held:
            held[name] += metrics[name].low <= wanted[name] <= metrics[name].high
    assert all(180 <= n <= 199 for n in held.values()), held


def test_images_of_one_group_are_one_draw():
    scores = scored(*scenes(12))
    twice = scored(*(np.concatenate([part, part]) for part in scenes(12)))
    alone, both = measure({"rows": scores}), measure({"rows": twice.in_groups(np.arange(24) % 12)})
    for name, interval in alone.metrics.items():
        assert vars(both.metrics[name]) == pytest.approx(vars(interval)), name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("size", "prediction has shape .* predict at the size of the map"),
        ("diverged", "1 of 3 predicted numbers are not finite.*the head diverged"),
        ("shifted", "the errors of image 0 are of 3 pixels .* compare each prediction with the map of its own image"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, told):
    true, predicted = np.array([[1.0, 2.0, np.nan], [np.nan, 4.0, np.nan]]), np.ones((2, 3))
    predicted[0, 0] = np.nan if change == "diverged" else 1.0
    predicted = predicted[:1] if change == "size" else predicted
    with pytest.raises(InputError, match=told):
        score([ImageErrors.of(predicted, true, NumberMap())], np.array([[2.0, 3.0]]), "number_map")
