import numpy as np
import pytest

from probe.core.errors import InputError
from probe.heads.mean import TrainingMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.dense_labels import place_means
from probe.heads.shared.head import Head
from probe.heads.shared.patch_numbers import PatchNumbers


@pytest.fixture
def scenes():
    """Maps (20, 3, 2, 2) and numbers (20, 4, 4), linear in the features but for noise; some places have no label."""
    random = np.random.default_rng(0)
    maps = random.normal(size=(20, 3, 2, 2)).astype(np.float32)
    places = 5 + np.einsum("c,nchw->nhw", [1.0, 2.0, -1.0], maps)
    numbers = places.repeat(2, 1).repeat(2, 2) + 0.01 * random.normal(size=(20, 4, 4))
    numbers[:5, :2, :2] = np.nan
    return maps, numbers


def test_the_number_of_a_place_is_the_mean_of_its_labelled_pixels(scenes):
    _, numbers = scenes
    numbers[7, 0, 0] = np.nan
    found = place_means(numbers, (2, 2)).reshape(20, 2, 2)
    with np.errstate(all="ignore"):
        wanted = np.stack([[[np.nanmean(one[r : r + 2, c : c + 2]) if np.isfinite(one[r : r + 2, c : c + 2]).any() else
                             np.nan for c in (0, 2)] for r in (0, 2)] for one in numbers])  # fmt: skip
    np.testing.assert_allclose(found, wanted)


def test_it_is_the_head_on_the_rows_of_places_that_have_a_label(scenes):
    maps, numbers = scenes
    head = PatchNumbers(RidgeProbe()).fit(maps, numbers)
    rows, y = maps.transpose(0, 2, 3, 1).reshape(-1, 3), place_means(numbers, (2, 2)).ravel()
    known = np.isfinite(y)
    alone = RidgeProbe().for_target("number").fit(rows[known], y[known])
    np.testing.assert_array_equal(head.number_maps(maps), alone.predict(rows).reshape(20, 2, 2))
    assert head.patches_ == {"n": 75, "left_out": 5, "grid": [2, 2]}
    assert np.nanmean((head.predict(maps) - y.reshape(20, 2, 2)) ** 2) < 0.01


def test_it_chooses_on_the_places_of_validation_images(scenes):
    maps, numbers = scenes
    head = PatchNumbers(RidgeProbe()).fit(maps[:14], numbers[:14], validation=(maps[14:], numbers[14:]))
    assert head.selection_["on"] == "validation"


def test_the_mean_says_the_same_everywhere(scenes):
    maps, numbers = scenes
    assert np.ptp(PatchNumbers(TrainingMean()).fit(maps, numbers).number_maps(maps)) == 0


def test_what_is_saved_is_the_head_of_places(scenes, tmp_path):
    maps, numbers = scenes
    head = PatchNumbers(RidgeProbe()).fit(maps, numbers)
    head.save(tmp_path / "head.safetensors")
    rows = maps.transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").predict(rows), head.predict(maps).ravel())


def test_too_few_labelled_places_are_refused(scenes):
    maps, numbers = scenes
    with pytest.raises(InputError, match="0 of the patches that train have a labelled pixel, a head needs at least 2"):
        PatchNumbers(RidgeProbe()).fit(maps, numbers * np.nan)
