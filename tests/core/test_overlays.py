import numpy as np
from PIL import Image

from probe.core.overlays import OPACITY, colours, legend, overlay


def test_classes_have_colours_that_differ_and_stay():
    palette = colours(24).astype(int)
    apart = np.abs(palette[:, None] - palette[None]).max(axis=2) + 255 * np.eye(24)
    assert apart.min() >= 50
    assert apart[:8, :8].min() >= 100
    np.testing.assert_array_equal(colours(5), palette[:5])


def test_background_and_unlabelled_pixels_show_the_image():
    image = Image.fromarray(np.full((2, 3, 3), 100, dtype=np.uint8))
    mask = np.array([[0, 1, 255], [2, 1, 0]], dtype=np.uint8)
    over = np.asarray(overlay(image, mask, 3, background=0)).astype(int)
    assert (over[[0, 0, 1], [0, 2, 2]] == 100).all()
    expected = 100 * (1 - OPACITY) + OPACITY * colours(3).astype(float)
    np.testing.assert_allclose(over[[0, 1], [1, 0]], expected[[1, 2]], atol=0.5)
    assert (np.asarray(overlay(image, mask, 3))[0, 0] != 100).any()


def test_a_legend_takes_as_many_lines_as_its_names_need():
    names = [f"a class with number {k}" for k in range(6)]
    wide, narrow = (legend(names, range(6), width, 6) for width in (2000, 200))
    assert wide.height < narrow.height
    assert narrow.width == 200
