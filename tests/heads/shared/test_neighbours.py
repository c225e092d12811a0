import numpy as np
import pytest

from probe.core.arrays import RowStack, RowSubset
from probe.heads.shared import neighbours
from probe.heads.shared.neighbours import Neighbours


def brute(X, queries, metric):
    """(n, N) distances in double precision."""
    X, queries = X.astype(np.float64), queries.astype(np.float64)
    if metric == "euclidean":
        return np.array([np.linalg.norm(X - q, axis=1) for q in queries])
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(X, axis=1)
    return -np.divide(queries @ X.T, lengths, where=lengths > 0, out=np.zeros_like(lengths))


def expected(X, queries, k, metric):
    distances = brute(X, queries, metric)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return rows, -np.take_along_axis(distances, rows, axis=1)


def drawn(n, width, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(dtype) + dtype(0.3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 3), (500, 40), (9000, 300)])
def test_both_metrics_find_what_a_sort_of_all_distances_finds(dtype, n, k):
    X, queries = drawn(n, 12, dtype=dtype), drawn(60, 12, seed=1, dtype=dtype)
    found = Neighbours(X).nearest(queries, k)
    for metric in ("cosine", "euclidean"):
        rows, nearness = expected(X, queries, k, metric)
        same = found[metric].rows == rows
        assert same.mean() > (0.999 if dtype is np.float64 else 0.995)  # in single precision some are equally near
        tolerance = 1e-12 if dtype is np.float64 else 1e-5
        np.testing.assert_allclose(found[metric].nearness, nearness, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("n_queries", [1, 3, 257])
@pytest.mark.parametrize("blocks", [(32, 64), (96, 512), (512, 8192)])
def test_the_bits_do_not_depend_on_how_queries_and_rows_are_cut(n_queries, blocks, monkeypatch):
    X, queries = drawn(3000, 33), drawn(min(700, 60 * n_queries), 33, seed=1)
    whole = Neighbours(X).nearest(queries, 25)
    monkeypatch.setitem(neighbours.BLOCKS, "cpu", blocks)
    index = Neighbours(X)
    parts = [index.nearest(queries[i : i + n_queries], 25) for i in range(0, len(queries), n_queries)]
    for metric in ("cosine", "euclidean"):
        for name in ("rows", "nearness"):
            cut = np.concatenate([getattr(part[metric], name) for part in parts])
            np.testing.assert_array_equal(cut, getattr(whole[metric], name))


def test_one_metric_finds_what_it_finds_beside_the_other():
    X, queries = drawn(2000, 20), drawn(50, 20, seed=1)
    both = Neighbours(X).nearest(queries, 9)
    for metric in ("cosine", "euclidean"):
        (alone,) = Neighbours(X).nearest(queries, 9, [metric]).values()
        np.testing.assert_array_equal(alone.rows, both[metric].rows)
        np.testing.assert_array_equal(alone.nearness, both[metric].nearness)


def test_rows_in_files_subsets_and_stacks_are_found_as_those_of_an_array(tmp_path):
    X, queries = drawn(5000, 16, dtype=np.float16), drawn(40, 16, seed=1)
    expected = Neighbours(X).nearest(queries, 9)
    np.save(tmp_path / "x.npy", X[::-1])
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    back = np.arange(len(X))[::-1]
    subset = RowSubset(stored, back)
    stack = RowStack([RowSubset(stored, back[:1234]), RowSubset(stored, back[1234:])])
    for rows in (subset, stack):
        found = Neighbours(rows).nearest(queries, 9)
        for metric in ("cosine", "euclidean"):
            np.testing.assert_array_equal(found[metric].rows, expected[metric].rows)
            np.testing.assert_array_equal(found[metric].nearness, expected[metric].nearness)


def test_equal_rows_are_equally_near_wherever_they_stand_and_come_in_their_order():
    X = drawn(700, 24)
    repeated = np.concatenate([X, X[::-1], X])
    for metric, found in Neighbours(repeated).nearest(X, 3).items():
        own = np.arange(700)
        np.testing.assert_array_equal(found.rows, np.column_stack([own, 1399 - own, 1400 + own]), err_msg=metric)
        assert (found.nearness == (1 if metric == "cosine" else 0)).all()


def test_a_mean_that_is_large_beside_the_spread_costs_no_neighbour():
    X, queries = drawn(2000, 10), drawn(100, 10, seed=1)
    near = Neighbours(X).nearest(queries, 5)["euclidean"]
    far = Neighbours(X.astype(np.float64) + 1e5).nearest(queries.astype(np.float64) + 1e5, 5)["euclidean"]
    np.testing.assert_array_equal(near.rows, far.rows)
    moved, asked = (np.float32(2**10) + np.round(rows * 2**8) / np.float32(2**8) for rows in (X, queries))
    exact, _ = expected(moved, asked, 5, "euclidean")
    assert (Neighbours(moved).nearest(asked, 5)["euclidean"].rows == exact).mean() > 0.98


def test_a_row_of_zeros_is_at_right_angles_to_all():
    X = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    found = Neighbours(X).nearest(np.array([[3.0, 0.0], [0.0, 0.0]]), 4, ["cosine"])["cosine"]
    assert found.rows.tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]
    np.testing.assert_allclose(found.nearness, [[1, 0, 0, -1], [0, 0, 0, 0]], atol=1e-15)


def test_rows_that_are_all_equal_come_by_their_numbers():
    X = np.full((100, 5), 3.0, dtype=np.float32)
    for found in Neighbours(X).nearest(X[:4], 30).values():
        np.testing.assert_array_equal(found.rows, np.tile(np.arange(30), (4, 1)))


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_lengths_that_float32_cannot_square_are_measured(scale):
    X, queries = drawn(300, 6), drawn(20, 6, seed=1)
    plain = Neighbours(X).nearest(queries, 4)
    scaled = Neighbours(X * np.float32(scale)).nearest(queries * np.float32(scale), 4)
    for metric in ("cosine", "euclidean"):
        assert (plain[metric].rows == scaled[metric].rows).mean() > 0.97
