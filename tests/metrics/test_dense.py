"""Metrics of masks, against scikit-learn on all pixels at once, and by the properties that they must have."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn import metrics as oracle

from probe.core.errors import InputError
from probe.core.targets.mask import Mask
from probe.metrics.dense import by_class, columns, f1, iou, mean_ratio, of_images, resampled_ratio, shown
from probe.metrics.evaluate import measure
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import beside, restored, score
from probe.metrics.shared.scores.mask import ImageTally

K = 5
RATIOS = ("miou", "pixel_accuracy", "class_accuracy", "f1")


def scenes(n=40, seed=0, shape=(12, 15)):
    """Masks and predictions that agree at most pixels; class 4 is rare, some pixels are ignored."""
    random = np.random.default_rng(seed)
    fields = gaussian_filter(random.standard_normal((n, 4, *shape)), (0, 0, 2, 2))
    masks = fields.argmax(axis=1).astype(np.uint8)
    masks[random.random(masks.shape) < 0.01] = 4
    predicted = np.where(random.random(masks.shape) < 0.75, masks, random.integers(0, K, masks.shape)).astype(np.int64)
    masks[random.random(masks.shape) < 0.1] = 255
    return masks, predicted


def scored(masks, predicted, n_classes=K):
    labels = np.stack([np.bincount(m[m < n_classes].ravel(), minlength=n_classes) for m in masks])
    tallies = [ImageTally.of(p, m, n_classes) for p, m in zip(predicted, masks, strict=True)]
    return score(tallies, labels, "mask").of_target(Mask(background=0))


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    random = np.random.default_rng(0)
    masks = np.minimum(random.integers(0, 7, (20, 6, 8)), K - 1).astype(np.uint8)
    predicted = np.where(random.random(masks.shape) < 0.7, masks, random.integers(0, K, masks.shape)).astype(int)
    masks[random.random(masks.shape) < 0.1] = 255
    scores = scored(masks, predicted)
    found = measure({"rows": scores, **beside(scores, np.array([[60, 30, 5, 4.5, 0.5]]))})
    return {"metrics": found.metrics, "rows": found.rows["miou"][:5], "classes": by_class(scores)[:2]}


@pytest.fixture(scope="module")
def pair():
    return scenes()


def values(scores, learnt=None):
    learnt = scores.labels if learnt is None else learnt
    return {name: found.value for name, found in measure({"rows": scores, **beside(scores, learnt)}).metrics.items()}


def test_metrics_are_those_of_scikit_learn_on_all_labelled_pixels(pair):
    masks, predicted = pair
    true, found = masks[masks < K], predicted[masks < K]
    each = oracle.f1_score(true, found, average=None)
    expected = {
        "miou": oracle.jaccard_score(true, found, average="macro"),
        "pixel_accuracy": oracle.accuracy_score(true, found),
        "class_accuracy": oracle.balanced_accuracy_score(true, found),
        "f1": each.mean(),
        "f1_foreground": each[1:].mean(),
    }
    got = values(scored(*pair))
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_f1_of_a_class_is_2_iou_over_1_plus_iou(pair):
    for told in by_class(scored(*pair)):
        assert told["f1"].value == pytest.approx(2 * told["iou"].value / (1 + told["iou"].value), abs=1e-12)


def test_confusions_sum_to_the_labelled_pixels(pair):
    scores = scored(*pair)
    assert scores.confusion[..., 2].sum() == (pair[0] < K).sum() == scores.labels.sum() == scores.predicted.sum()


def test_a_perfect_prediction_gives_1_with_a_width(pair):
    masks, _ = pair
    scores = scored(masks, np.where(masks < K, masks, 0).astype(int))
    found = measure({"rows": scores, **beside(scores, scores.labels)}).metrics
    assert all(interval.value == 1 and interval.low < 1 and interval.high == 1 for interval in found.values())


def test_permuting_classes_permutes_their_scores_and_leaves_the_means(pair):
    masks, predicted = pair
    order = np.random.default_rng(3).permutation(K)
    places = np.append(order, np.full(256 - K, 255)).astype(np.uint8)
    one, two = scored(masks, predicted), scored(places[masks], order[predicted])
    moved = [two_of["iou"].value for two_of in by_class(two)]
    assert [told["iou"].value for told in by_class(one)] == pytest.approx([moved[k] for k in order])
    assert [values(one)[name] for name in RATIOS] == pytest.approx([values(two)[name] for name in RATIOS])


def test_ignored_pixels_change_nothing(pair):
    masks, predicted = pair
    changed = np.where(masks == 255, (predicted + 1) % K, predicted)
    assert values(scored(masks, predicted)) == values(scored(masks, changed))


def test_images_in_another_order_give_the_same(pair):
    masks, predicted = pair
    assert values(scored(masks, predicted)) == pytest.approx(values(scored(masks[::-1], predicted[::-1])))


def test_the_mean_is_over_the_classes_that_the_masks_show(pair):
    """A class that is predicted alone is not averaged: the mean is over the same classes whatever a head says."""
    masks, predicted = pair
    masks = np.where(masks == 4, 0, masks).astype(np.uint8)
    scores = scored(masks, predicted)
    assert shown(scores).tolist() == [True] * 4 + [False]
    told = by_class(scores)
    assert told[4] is None
    assert values(scores)["miou"] == pytest.approx(np.mean([one["iou"].value for one in told[:4]]))


def test_head_mid_and_tail_are_told_by_training_pixels(pair):
    scores = scored(*pair)
    each = [told["iou"].value for told in by_class(scores)]
    found = values(scores, np.array([[60, 30, 5, 4.5, 0.5]]))
    assert [found[f"iou_{group}"] for group in ("head", "mid", "tail")] == pytest.approx(
        [np.mean(each[:2]), np.mean(each[2:4]), each[4]]
    )
    assert "iou_mid" not in values(scores, np.array([[1, 1, 1, 1, 1]]))


@pytest.mark.parametrize("ratio", [iou, f1])
def test_the_derivative_is_that_of_the_weight_of_an_image(pair, ratio):
    sums = of_images(scored(*pair))
    value, slopes = mean_ratio(sums, ratio, np.ones(K, dtype=bool))
    assert slopes.sum() == pytest.approx(0, abs=1e-9)
    heavier = sums.copy()
    heavier[7] *= 1 + 1e-5
    moved = mean_ratio(heavier, ratio, np.ones(K, dtype=bool))[0]
    assert (moved - value) / 1e-5 == pytest.approx(slopes[7], rel=1e-3)


def test_every_metric_is_the_mean_of_what_images_add_to_it(pair):
    scores = scored(*pair)
    found = measure({"rows": scores, **beside(scores, scores.labels)})
    assert {"miou", "boundary_accuracy", "f1_foreground"} <= set(found.rows) == set(found.metrics)
    for name, interval in found.metrics.items():
        assert found.rows[name].mean() == pytest.approx(interval.value)


def test_what_a_run_keeps_gives_the_metrics_again(pair):
    scores = scored(*pair)
    kept = scores.arrays()
    again = restored(kept, "mask")
    assert {len(array) for array in kept.values()} == {len(scores.labels)}
    for name in (*RATIOS, "boundary_accuracy"):
        assert set(known()[name].needs) <= set(kept)
        np.testing.assert_allclose(known()[name].rows(again), known()[name].rows(scores))


def test_images_of_a_group_are_resampled_together(pair):
    masks, predicted = pair
    alone = scored(masks[:10], predicted[:10])
    copies = scored(np.repeat(masks[:10], 4, axis=0), np.repeat(predicted[:10], 4, axis=0))
    grouped = copies.in_groups(np.repeat(np.arange(10), 4))
    one, two, three = (measure({"rows": part}).metrics["miou"] for part in (alone, grouped, copies))
    assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=1e-6)
    assert three.high - three.low < 0.7 * (one.high - one.low)


def test_a_resample_without_a_class_is_averaged_over_the_others():
    sums = np.array([[2.0, 0, 2, 0, 2, 0, 0, 0]])
    assert resampled_ratio(sums, iou, np.ones(2, dtype=bool)).tolist() == [1.0]


def test_a_tally_of_another_image_is_refused(pair):
    masks, predicted = pair
    tallies = [ImageTally.of(p, m, K) for p, m in zip(predicted, masks, strict=True)]
    labels = scored(masks, predicted).labels
    with pytest.raises(
        InputError, match=r"the tally of image 0 has .* pixels of the classes and its mask .*, expected"
    ):
        score(tallies[::-1], labels, "mask")
    with pytest.raises(InputError, match=r"there are 3 tallies and labels of shape \(40, 5\), expected"):
        score(tallies[:3], labels, "mask")


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(30, 0.88), (100, 0.91), (1000, 0.93)])
def test_intervals_hold_the_scores_of_the_population(n, least):
    """1,000 test sets drawn from 8,000 images whose quality differs, as it does in fact: 95 % are asked for."""
    random = np.random.default_rng(5)
    masks, predicted = scenes(8000, seed=1, shape=(8, 9))
    quality = random.beta(3, 1.5, len(masks))[:, None, None]
    predicted = np.where((random.random(len(masks))[:, None, None] < quality) & (masks < K), masks, predicted)
    everything = scored(masks, predicted)
    population = values(everything)
    sums, held = columns(everything), dict.fromkeys(("miou", "pixel_accuracy", "f1"), 0)
    assert len(sums) == 8000
    for draw in range(1000):
        rows = random.integers(0, len(masks), n)
        part = type(everything)(*(getattr(everything, name)[rows] for name in ("labels", "confusion", "boundary")))
        found = measure({"rows": part}, [known()[name] for name in held], seed=draw % 2).metrics
        for name, interval in found.items():
            held[name] += interval.low <= population[name] <= interval.high
    assert min(held.values()) / 1000 >= least, held
