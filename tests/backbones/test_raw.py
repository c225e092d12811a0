import zlib

import numpy as np
import pytest
from PIL import Image

from probe.backbones.raw import RawInput
from probe.core.errors import InputError
from probe.core.texts import Text


def image(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 8), (28, 28, 28), (32, 32, 32), (20, 30, 20)])
def test_small_images_keep_their_pixels(height, width, side):
    row = image(height, width)
    found = RawInput().transform(row).numpy().reshape(3, side, side)
    top, left = (height - side) // 2, (width - side) // 2
    expected = np.asarray(row)[top : top + side, left : left + side].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_large_images_are_averages_of_blocks():
    row = image(64, 64)
    blocks = np.asarray(row, float).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(
        RawInput().transform(row).numpy().reshape(3, 32, 32), blocks, atol=1.01 / 255
    )  # rounded twice


def test_greyscale_has_three_equal_channels():
    row = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    found = RawInput().transform(row).numpy().reshape(3, -1)
    np.testing.assert_allclose(found, np.tile(np.arange(64) / 255, (3, 1)), atol=1e-7)


def counted(*texts, n_words=4096):
    backbone = RawInput("texts", n_words=n_words)
    return backbone.extract(backbone.collate([backbone.transform(text) for text in texts]), ["pooled"])["pooled"]


def test_words_are_counted_without_case_and_signs():
    found, empty = counted("The cat, the CAT; and 2 dogs.", "", n_words=1000).numpy()
    counts = {"the": 2, "cat": 2, "and": 1, "2": 1, "dogs": 1}
    assert found.sum() == 7
    for word, count in counts.items():
        assert found[zlib.crc32(word.encode()) % 1000] == count
    assert empty.sum() == 0


def test_ids_of_words_are_given_one_by_one_and_an_empty_text_has_one():
    backbone = RawInput("texts")
    batch = backbone.collate([backbone.transform(text) for text in ("a B a", "", "b")])
    found = backbone.extract(batch, ["token_ids"])["token_ids"]
    a, b = (zlib.crc32(word) & 0x7FFFFFFF for word in (b"a", b"b"))
    assert found.values.tolist() == [a, b, a, 0, b]
    assert found.lengths.tolist() == [3, 1, 1]
    assert RawInput().kinds == ("pooled",)


def test_the_words_of_a_pair_are_counted_together():
    pair, one = counted(Text("a b", "b c"), "a b b c")
    assert (pair == one).all()
    alone, other = counted(Text("a b"), "b a")
    assert (alone == other).all()


def test_the_order_of_words_is_irrelevant():
    one, other = counted("a b c b", "b c b a")
    assert (one == other).all()


def test_images_of_several_small_sizes_are_refused_with_a_size_that_works():
    rows = [image(20, 20), image(64, 30)]
    backbone = RawInput()
    with pytest.raises(
        InputError, match=r"the smaller sides of the images are 20 to 30 pixels, .* set backbone.size=20"
    ):
        backbone.collate([backbone.transform(row) for row in rows])
    smaller = RawInput(size=20)
    assert smaller.collate([smaller.transform(row) for row in rows]).shape == (2, 3 * 20 * 20)


def test_parameters_that_mean_nothing_are_refused_together():
    with pytest.raises(InputError, match=r"rows is 'vectors', expected images, texts or series; size is 64, expected "
                       "1 to 32 pixels; n_words is 0, expected at least 1"):  # fmt: skip
        RawInput("vectors", 64, 0)
    with pytest.raises(InputError, match=r"reads texts, this row is ndarray: set backbone.rows=images"):
        RawInput("texts").transform(np.zeros(3))


def test_what_is_read_and_how_is_part_of_the_identity():
    identities = [RawInput().identity(), RawInput(size=16).identity(), RawInput("texts").identity(),
                  RawInput("texts", n_words=10).identity()]  # fmt: skip
    assert len({str(identity) for identity in identities}) == 4


def test_the_steps_of_a_series_follow_each_other():
    series = np.arange(6.0).reshape(3, 2)
    assert RawInput("series").transform(series).tolist() == [0, 1, 2, 3, 4, 5]
    assert RawInput("series", n_steps=2).transform(series).tolist() == [0, 1, 2, 3]
    assert RawInput("series", n_steps=4).transform(series).tolist() == [0, 1, 2, 3, 4, 5, 0, 0]


def test_series_of_several_lengths_are_refused_with_the_way_out():
    backbone = RawInput("series")
    with pytest.raises(InputError, match=r"series have 3 to 4 values, .* set backbone.n_steps to the steps of the"):
        backbone.collate([backbone.transform(np.ones((n, 1))) for n in (3, 4)])
