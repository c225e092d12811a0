import numpy as np
import pytest

from probe.metrics.captions import image_recall, mean_recall, text_recall
from probe.metrics.evaluate import measure
from probe.metrics.shared.intervals import wilson
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import restored
from probe.metrics.shared.scores.captions import AT, CaptionScores

NAMES = [f"{way}_retrieval_recall_at_{k}" for way in ("text", "image") for k in AT]


def drawn(n=200, most=6, seed=0):
    """Scores of images of which each is easy or hard for all of its captions."""
    rng = np.random.default_rng(seed)
    labels, ease = rng.integers(0, most, n), rng.random(n)
    owners = np.repeat(np.arange(n), labels)
    image_rank = np.where(rng.random(len(owners)) < ease[owners], 0, rng.integers(0, 20, len(owners)))
    text_rank = np.where(rng.random(n) < ease, 0, rng.integers(0, 20, n))
    return CaptionScores.of(labels, np.where(labels > 0, text_rank, -1), owners, image_rank), owners, image_rank


def test_recalls_are_shares_of_images_and_of_captions():
    scores, _, image_rank = drawn()
    found = measure({"captions": scores})
    values = {name: interval.value for name, interval in found.metrics.items()}
    captioned = scores.labels > 0
    assert (~captioned).any()
    for k in AT:
        assert values[f"text_retrieval_recall_at_{k}"] == pytest.approx((scores.text_rank[captioned] < k).mean())
        assert values[f"image_retrieval_recall_at_{k}"] == pytest.approx((image_rank < k).mean())
    assert values["mean_recall"] == pytest.approx(np.mean([values[name] for name in NAMES]))
    assert set(values) == {*NAMES, "mean_recall"}
    for name, rows in found.rows.items():
        assert rows.mean() == pytest.approx(values[name])


def test_derivatives_are_those_by_the_weight_of_an_image_with_all_of_its_captions():
    scores, owners, image_rank = drawn(30, seed=1)
    for i in range(30):
        ends = []
        for step in (1e-4, -1e-4):
            weights = np.ones(30)
            weights[i] += step
            of_images = np.where(scores.labels > 0, weights, 0)
            of_captions = weights[owners]
            ends.append([((scores.text_rank < 5) * of_images).sum() / of_images.sum(),
                         ((image_rank < 5) * of_captions).sum() / of_captions.sum()])  # fmt: skip
        slopes = (np.array(ends[0]) - ends[1]) / 2e-4
        found = text_recall(scores, 5)[1][i], image_recall(scores, 5)[1][i]
        np.testing.assert_allclose(found, slopes, atol=1e-7)


def test_intervals_cover_the_truth_where_captions_of_an_image_go_together():
    value = {name: i.value for name, i in measure({"captions": drawn(20_000, seed=9)[0]}).metrics.items()}
    covered = dict.fromkeys(value, 0)
    for seed in range(200):
        for name, interval in measure({"captions": drawn(60, seed=seed)[0]}).metrics.items():
            covered[name] += interval.low <= value[name] <= interval.high
    assert min(covered.values()) >= 180


def test_copies_of_a_caption_bring_no_certainty():
    scores = drawn(60, seed=3)[0]
    fivefold = CaptionScores(5 * scores.labels, scores.text_rank, 5 * scores.image_hits)
    name = "image_retrieval_recall_at_1"
    one, other = (measure({"captions": s}).metrics[name] for s in (scores, fivefold))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_where_everything_is_found_the_interval_is_of_images_with_captions():
    labels = np.array([5] * 50 + [0] * 1000)
    owners = np.repeat(np.arange(1050), labels)
    perfect = CaptionScores.of(labels, np.where(labels > 0, 0, -1), owners, np.zeros(250, np.int64))
    for interval in measure({"captions": perfect}).metrics.values():
        assert interval.value == interval.high == 1
        assert 0.9 < interval.low < 0.95  # Wilson's of 50


def test_intervals_cover_the_truth_where_a_few_images_have_most_captions():
    rng, covered = np.random.default_rng(0), np.zeros(7)
    for _ in range(100):
        labels = np.where(rng.random(20) < 0.1, 30, 1)
        ease = rng.beta(0.5, 0.5, 20)
        hits = np.stack([rng.binomial(labels, ease * share) for share in (0.6, 1.0, 1.0)], axis=1)
        ranks = np.searchsorted([0.3, 0.5, 0.6], rng.random(20))
        scores = CaptionScores(labels, np.array([0, 4, 9, 50])[ranks], hits)
        expected = [0.3, 0.5, 0.6, 0.3, 0.5, 0.5]
        found = measure({"captions": scores}).metrics
        for place, (name, value) in enumerate(
            zip([*NAMES, "mean_recall"], [*expected, np.mean(expected)], strict=True)
        ):
            covered[place] += found[name].low <= value <= found[name].high
    assert covered.min() >= 90


def test_the_least_number_of_images_is_that_of_the_weights_of_the_recall():
    labels = np.array([30, *[1] * 19])
    perfect = CaptionScores(labels, np.zeros(20, np.int64), np.repeat(labels[:, None], 3, axis=1))
    found = measure({"captions": perfect}).metrics
    assert found["text_retrieval_recall_at_1"].low == pytest.approx(wilson(20, 20).low)
    of_weights = 49**2 / (30**2 + 19)
    for name in ("image_retrieval_recall_at_1", "mean_recall"):
        assert found[name].low == pytest.approx(wilson(of_weights, of_weights).low)


def test_what_a_run_keeps_gives_the_values_of_the_rows_again():
    scores = drawn()[0]
    found, again = measure({"captions": scores}), restored(scores.arrays(), "captions")
    for name, rows in found.rows.items():
        assert set(known()[name].needs) <= set(scores.arrays())
        np.testing.assert_array_equal(known()[name].rows(again), rows)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    scores = drawn(60)[0]
    return {"metrics": measure({"captions": scores}).metrics, "slopes": mean_recall(scores)[1][:5]}
