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


def judged(n_queries=12, n_documents=50, width=6, seed=0):
    """Queries, documents of which some are equal, and every pair of them."""
    rng = np.random.default_rng(seed)
    documents = rng.normal(size=(n_documents, width)).astype(np.float32)
    documents[[4, 9, 30]] = documents[20]
    pairs = np.stack(np.indices((n_queries, n_documents)), axis=-1).reshape(-1, 2)
    return rng.normal(size=(n_queries, width)).astype(np.float32), documents, pairs


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("product_bytes", [2**26, 500])
def test_ranks_of_documents_are_those_of_a_stable_sort_without_what_is_left_out(cosine, product_bytes, monkeypatch):
    monkeypatch.setattr(module, "PRODUCT_BYTES", product_bytes)
    queries, documents, pairs = judged()
    left_out = np.array([[0, 20], [0, 3], [7, 4]])
    found = module.judged_ranks(queries, documents, pairs, left_out, cosine=cosine).reshape(12, 50)
    one, other = (rows.astype(np.float64) for rows in (queries, documents))
    if cosine:
        one, other = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (one, other))
    similarities = (one @ other.T).round(9)
    for query, row in enumerate(similarities):
        hidden = left_out[left_out[:, 0] == query, 1]
        order = [d for d in np.argsort(-row, kind="stable") if d not in hidden]
        expected = [order.index(d) if d in order else np.inf for d in range(50)]
        assert found[query].tolist() == expected


def test_a_query_of_zeros_finds_documents_in_their_order():
    ranks = module.judged_ranks(np.zeros((1, 3)), np.eye(3), np.array([[0, 2], [0, 0]]), np.empty((0, 2), np.int64))
    assert ranks.tolist() == [2, 0]
