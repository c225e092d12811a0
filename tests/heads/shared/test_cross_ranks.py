import numpy as np
import pytest

from probe.heads.shared import cross_ranks as module
from probe.heads.shared.cross_ranks import cross_ranks


def drawn(n=30, most=6, width=8, seed=0):
    """Images, texts, which text each caption is, and whose it is; some images have no caption."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, n)
    owners = np.repeat(np.arange(n), counts)
    texts = rng.normal(size=(len(owners), width)).astype(np.float32)
    return rng.normal(size=(n, width)).astype(np.float32), texts, np.arange(len(owners)), owners


def brute(images, texts, owners):
    """Ranks by a sort of every row of the cosines, in doubles."""
    one, other = (np.asarray(rows, np.float64) / np.linalg.norm(rows, axis=1)[:, None] for rows in (images, texts))
    cosines = one @ other.T
    text_rank = np.full(len(images), -1)
    for image, row in enumerate(cosines):
        order = sorted(range(len(texts)), key=lambda t: (-round(row[t], 9), t))
        own = [place for place, t in enumerate(order) if owners[t] == image]
        text_rank[image] = own[0] if own else -1
    image_rank = []
    for text, column in enumerate(cosines.T):
        order = sorted(range(len(images)), key=lambda i: (-round(column[i], 9), i))
        image_rank.append(order.index(owners[text]))
    return text_rank, np.array(image_rank)


def test_ranks_equal_those_of_a_brute_force_sort():
    images, texts, numbers, owners = drawn(60, seed=1)
    for found, expected in zip(cross_ranks(images, texts, numbers, owners), brute(images, texts, owners), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_of_equal_rows_the_lower_number_comes_first_in_both_directions():
    images, texts, numbers, owners = drawn(40, seed=2)
    images[[5, 17, 39]] = images[3]  # copies of an image
    texts[[1, 20, len(texts) - 1]] = texts[7]  # equal captions, of several images
    for found, expected in zip(cross_ranks(images, texts, numbers, owners), brute(images, texts, owners), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_where_all_rows_are_equal_ranks_are_numbers():
    owners = np.repeat(np.arange(4), [2, 0, 1, 3])
    text_rank, image_rank = cross_ranks(np.ones((4, 3)), np.ones((6, 3)), np.arange(6), owners)
    assert text_rank.tolist() == [0, -1, 2, 3]
    assert image_rank.tolist() == owners.tolist()


def test_equal_captions_may_share_a_row_of_features():
    images, texts, numbers, owners = drawn(40, seed=3)
    numbers[[4, 9, 30]] = 2
    apart = cross_ranks(images, texts[numbers], np.arange(len(owners)), owners)
    for found, expected in zip(cross_ranks(images, texts, numbers, owners), apart, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_bytes", [1, 2000])
def test_blocks_move_no_rank(n_bytes, monkeypatch):
    images, texts, numbers, owners = drawn(50, seed=4)
    images[31], texts[5] = images[2], texts[40]
    expected = cross_ranks(images, texts, numbers, owners)
    monkeypatch.setattr(module, "PRODUCT_BYTES", n_bytes)
    for found, whole in zip(cross_ranks(images, texts, numbers, owners), expected, strict=True):
        np.testing.assert_array_equal(found, whole)


def test_lengths_move_no_rank_and_a_row_of_zeros_is_at_a_right_angle():
    images, texts, numbers, owners = drawn(30, seed=5)
    expected = cross_ranks(images, texts, numbers, owners)
    for found, whole in zip(cross_ranks(4 * images, 0.5 * texts, numbers, owners), expected, strict=True):
        np.testing.assert_array_equal(found, whole)
    away = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[-1.0, 0.0], [1.0, 0.0]])
    text_rank, image_rank = cross_ranks(*away, np.arange(2), np.arange(2))
    assert (text_rank.tolist(), image_rank.tolist()) == ([1, 1], [1, 1])


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    images, texts, numbers, owners = drawn(200, seed=6)
    images[31], texts[5] = images[2], texts[40]
    found = cross_ranks(images, texts, numbers, owners, device="cuda")
    for one, other in zip(found, cross_ranks(images, texts, numbers, owners), strict=True):
        assert (one == other).mean() > 0.99
