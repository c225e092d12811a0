import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.depth_scenes import HOLES, LEAST, MOST, load, scene


def test_more_rows_leave_the_others_as_they_are():
    few, many = load(n_train=3, n_test=1), load(n_train=6, n_test=2)
    for row in range(3):
        one, other = (data.partitions["train"] for data in (few, many))
        np.testing.assert_array_equal(np.asarray(one[row]), np.asarray(other[row]))
        np.testing.assert_array_equal(one.number_maps[row], other.number_maps[row])
    assert few.fingerprint != many.fingerprint


def test_depths_lie_in_the_range_and_a_pixel_in_fifty_has_none():
    maps = np.stack([scene(32, np.random.default_rng(row))[1] for row in range(50)])
    assert np.nanmin(maps) >= LEAST
    assert np.nanmax(maps) <= MOST
    assert np.isnan(maps).mean() == pytest.approx(HOLES, abs=0.003)


def test_haze_tells_depth():
    """Pixels of far things are nearer to the colour of the fog."""
    images, maps = zip(*(scene(32, np.random.default_rng(row)) for row in range(50)), strict=True)
    known = np.isfinite(maps)
    contrast = np.abs(np.stack(images) / 255 - 0.75).max(axis=-1)
    assert np.corrcoef(contrast[known], np.stack(maps)[known])[0, 1] < -0.5


def test_scenes_that_cannot_be_drawn_are_refused():
    with pytest.raises(InputError, match=r"size is 8, expected 16 pixels or more: set dataset.size=32"):
        load(size=8)
    with pytest.raises(InputError, match=r"n_train is 0 and n_test 1, expected a scene or more of both"):
        load(n_train=0, n_test=1)
