"""Maps that are computed when rows are asked for: of tokens, of layers side by side, place by place."""

import numpy as np
import pytest
import torch

from probe.core.arrays import RowSubset
from probe.core.maps import MapOfTokens, PlaceRows, SideBySide, places_of


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float32)


def test_tokens_behind_the_prefix_are_the_map(maps):
    tokens = np.concatenate([np.zeros((5, 2, 3), np.float32), maps.reshape(5, 3, 24).transpose(0, 2, 1)], axis=1)
    found = MapOfTokens(tokens, (4, 6))
    assert found.shape == maps.shape
    np.testing.assert_array_equal(found[np.array([3, 1])], maps[[3, 1]])
    np.testing.assert_array_equal(found[1:3], maps[1:3])


def test_coarser_layers_are_resized_to_the_finest_grid(maps):
    coarse = np.random.default_rng(1).normal(size=(5, 2, 2, 3)).astype(np.float32)
    found = SideBySide([coarse, maps])
    assert found.shape == (5, 5, 4, 6)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(coarse), (4, 6), mode="bilinear")
    np.testing.assert_allclose(found[:], np.concatenate([wanted.numpy(), maps], axis=1), atol=1e-6)


def test_places_are_rows_image_by_image(maps):
    rows = places_of(maps)
    np.testing.assert_array_equal(rows[24 + 7], maps[1, :, 1, 1])
    some = np.array([0, 119, 31, 31, 60])
    found = PlaceRows(RowSubset(maps, np.arange(5)), some)
    np.testing.assert_array_equal(found[:], rows[some])
    np.testing.assert_array_equal(found[np.array([4, 0])], rows[some[[4, 0]]])
    assert found[0:0].shape == (0, 3)
