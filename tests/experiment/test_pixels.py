from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.datasets.shapes import CLASSES, load
from probe.experiment.pixels import extremes, image_iou, of_masks, write_overlays
from probe.metrics.shared.scores import score
from probe.metrics.shared.scores.mask import ImageTally
from probe.results.schema import OVERLAYS


@pytest.fixture(scope="module")
def shapes():
    return load(n_train=80, n_test=9)


def maps(masks):
    """Image 3 is right, image 5 nearly all background, of the others the upper half is nearly right."""

    def found(place):
        mask = masks[place].astype(int)
        if place != 3:
            mask[0 if place == 5 else len(mask) // 2 :] = 0
            mask[:, 0] = 2
        return mask

    return found


@pytest.fixture(scope="module")
def scores(shapes):
    part = shapes.partitions["test"]
    found = maps(part.masks)
    tallies = [ImageTally.of(found(i), part.masks[i], len(CLASSES)) for i in range(len(part))]
    return score(tallies, part.labels, "mask").of_target(shapes.target)


def test_a_record_tells_of_every_class_and_of_how_pixels_were_counted(shapes, scores):
    train = shapes.partitions["train"].labels
    told = of_masks(scores, train, shapes, TinyBackbone(), np.arange(9))
    assert [one["name"] for one in told["classes"]] == list(CLASSES)
    assert sum(one["train_share"] for one in told["classes"]) == pytest.approx(1)
    assert sum(one["test_pixels"] for one in told["classes"]) == 9 * 32 * 32
    disc = told["classes"][1]["iou"]
    assert 0 <= disc["low"] <= disc["value"] <= disc["high"] <= 1
    assert told["evaluation"] == {
        "size": "of the masks", "ignored_codes": [], "windows": 0,
        "averaged": [name for name, one in zip(CLASSES, told["classes"], strict=True) if "iou" in one],
    }  # fmt: skip


def test_windows_are_part_of_how_pixels_were_counted(shapes, scores):
    backbone = MultiView(TinyBackbone(), kind="flips", n=2)
    told = of_masks(scores, shapes.partitions["train"].labels, shapes, backbone, np.arange(9))
    assert told["evaluation"]["windows"] == 0
    backbone.kind, backbone.n = "windows", 5
    told = of_masks(scores, shapes.partitions["train"].labels, shapes, backbone, np.arange(9))
    assert told["evaluation"]["windows"] == 4


def test_best_median_and_worst_are_told_by_the_image_alone(scores):
    values = image_iou(scores)
    found = extremes(scores)
    assert [which for which, *_ in found] == ["best", "median", "worst"]
    assert found[0][1:] == (3, 1.0)
    assert found[2][2] == values.min()
    assert found[1][2] == pytest.approx(np.median(values))


def test_overlays_show_image_mask_and_prediction(shapes, scores, tmp_path):
    part = shapes.partitions["test"]
    told = of_masks(scores, shapes.partitions["train"].labels, shapes, TinyBackbone(), np.arange(9))["overlays"]
    write_overlays(tmp_path, told, shapes, "test", maps(part.masks))
    sheet = np.asarray(Image.open(tmp_path / OVERLAYS).convert("RGB"))
    assert sheet.shape[1] == 3 * (128 + 4)
    best = sheet[14 : 14 + 128]  # below the words
    enlarged = np.asarray(part[3].resize((128, 128), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(best[:, :128], enlarged)
    np.testing.assert_array_equal(best[:, 132:260], best[:, 264:392])
    painted = (best[:, 132:260] != enlarged).any(axis=2)
    assert np.isclose(painted.mean(), (part.masks[3] > 0).mean(), atol=0.01)


def test_columns_of_overlays_stand_below_their_words_whatever_the_sizes_of_images(shapes, tmp_path):
    sizes = {0: (100, 40), 1: (400, 200), 2: (40, 100)}

    class Part:
        ids = tuple("abc")
        masks = tuple(np.zeros((height, width), np.uint8) for width, height in sizes.values())

        def __len__(self):
            return 3

        def __getitem__(self, row):
            return Image.new("RGB", sizes[row], (255, 0, 0))

    data = replace(shapes, partitions={"test": Part()})
    told = [{"which": "best", "row": row, "place": row, "miou": 1.0} for row in sizes]
    write_overlays(tmp_path, told, data, "test", lambda place: Part.masks[place])
    sheet = np.asarray(Image.open(tmp_path / OVERLAYS).convert("RGB")).astype(int)
    red = (sheet == (255, 0, 0)).all(axis=2)
    begins = {int(x) for line in red for x in np.flatnonzero(np.diff(line.astype(int), prepend=0) == 1)}
    assert begins == {0, 324, 648}  # of the widest picture, and a gap
    words = (sheet[:14] < 128).all(axis=2).any(axis=0)
    assert all(words[x : x + 12].any() for x in begins)
    assert not words[260:324].any()
