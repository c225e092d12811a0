import numpy as np
import pytest

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.heads.shared.moments import ClassMoments

SECONDS = ["none", "diagonal", "class_diagonal", "full"]


def rows(n=300, width=7, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    return rng.normal(size=(n, width)) * np.geomspace(0.1, 10, width) + rng.normal(size=(n_classes, width))[y], y


def collect(X, y, second="full", n_classes=4, **options):
    return ClassMoments(n_classes, X.shape[1], second=second, extremes=True, **options).update(X, y)


def assert_same(a, b, rtol=1e-12):
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_allclose(a.means, b.means, rtol=rtol, atol=1e-13)
    np.testing.assert_array_equal([a.low, a.high], [b.low, b.high])
    if a.second != "none":
        scale = np.abs(a.within()).max()
        np.testing.assert_allclose(a.within(), b.within(), rtol=rtol, atol=rtol * scale)
        np.testing.assert_allclose(a.total(), b.total(), rtol=rtol, atol=rtol * scale)


def test_statistics_equal_their_definitions():
    X, y = rows()
    deviations = X - np.array([X[y == k].mean(axis=0) for k in range(4)])[y]
    centred = X - X.mean(axis=0)
    full = collect(X, y)
    np.testing.assert_allclose(full.within(), deviations.T @ deviations, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(full.total(), centred.T @ centred, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(collect(X, y, "diagonal").within(), (deviations**2).sum(axis=0), rtol=1e-12)
    per_class = np.array([(deviations[y == k] ** 2).sum(axis=0) for k in range(4)])
    np.testing.assert_allclose(collect(X, y, "class_diagonal").within(), per_class, rtol=1e-12)
    np.testing.assert_allclose(collect(X, y, "class_diagonal").total(), (centred**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(full.low, X.min(axis=0))
    np.testing.assert_array_equal(full.high, X.max(axis=0))
    np.testing.assert_allclose(full.mean, X.mean(axis=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("second", SECONDS)
def test_any_order_any_split_and_batches_that_lack_a_class_give_the_same(second):
    X, y = rows()
    once = collect(X, y, second)
    order = np.argsort(y, kind="stable")  # the first batches hold one class only
    streamed = ClassMoments(4, 7, second=second, extremes=True)
    for part in np.array_split(order[::-1], [1, 5, 90, 91, 250]):
        streamed.update(X[part], y[part])
    assert_same(once, streamed)


@pytest.mark.parametrize("second", SECONDS)
def test_merging_is_associative_and_commutative(second):
    X, y = rows()
    parts = np.array_split(np.arange(300), 3)

    def part(i):
        return collect(X[parts[i]], y[parts[i]], second)

    once = collect(X, y, second)
    assert_same(once, part(0).merge(part(1)).merge(part(2)))
    assert_same(once, part(0).merge(part(1).merge(part(2))))
    assert_same(once, part(2).merge(part(0)).merge(part(1)))
    empty = ClassMoments(4, 7, second=second, extremes=True)
    assert_same(once, empty.merge(part(0)).merge(part(1).merge(part(2))))
    assert_same(once, collect(X, y, second).merge(ClassMoments(4, 7, second=second, extremes=True)))


def test_moments_of_other_shape_are_not_merged():
    X, y = rows()
    with pytest.raises(InputError, match=r"moments of \(4, 7\) with second=full cannot take those of \(4, 7\) with"):
        collect(X, y).merge(collect(X, y, "diagonal"))


def test_sums_of_float16_rows_have_the_same_bits_in_any_order():
    X, y = rows(n=3000)
    X = X.astype(np.float16)
    order = np.random.default_rng(1).permutation(3000)
    a, b = collect(X, y, "none"), collect(X[order], y[order], "none")
    np.testing.assert_array_equal(a.sums, b.sums)


def test_a_large_offset_costs_no_digits():
    X, y = rows()
    moved = collect(X + 1e6, y, "diagonal").within()
    np.testing.assert_allclose(moved, collect(X, y, "diagonal").within(), rtol=1e-7)


def test_a_constant_feature_has_exactly_no_second_moment():
    X, y = rows()
    X[:, 3] = 0.1
    assert collect(X, y, "diagonal").squares[3] == 0
    assert collect(X, y, "diagonal").total()[3] < 1e-20


def test_memmap_row_subset_and_array_give_the_same_bits(tmp_path):
    X, y = rows()
    half = X.astype(np.float16)
    np.save(tmp_path / "x.npy", half)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    for second in SECONDS:
        a, b = collect(half, y, second), collect(stored, y, second)
        c = collect(RowSubset(stored, np.arange(300)), y, second)
        for other in (b, c):
            np.testing.assert_array_equal(a.sums, other.sums)
            np.testing.assert_array_equal(a.squares, other.squares)


def test_blocks_do_not_change_the_result(monkeypatch):
    X, y = rows()
    once = collect(X, y)
    monkeypatch.setattr("probe.heads.shared.one_pass.BLOCK_BYTES", 7 * 4 * 11)
    for product_rows in (1, 11, 50, 1000):
        monkeypatch.setattr("probe.heads.shared.one_pass.PRODUCT_BLOCK_BYTES", 7 * 4 * product_rows)
        assert_same(once, collect(X, y))


def test_float32_products_are_close_to_float64(monkeypatch):
    X, y = rows(n=3000)
    X = X.astype(np.float32)
    exact = collect(X, y)
    monkeypatch.setattr("probe.heads.shared.moments.FLOAT64_PRODUCTS", 0)
    narrow = collect(X, y)
    np.testing.assert_allclose(narrow.within(), exact.within(), rtol=1e-5, atol=1e-6 * exact.within().max())
    assert (exact.rounding, narrow.rounding) == (2.0**-52, 2.0**-23)
    assert collect(X.astype(np.float64), y).rounding == 2.0**-52


@pytest.mark.parametrize("second", SECONDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_threads_change_no_sum_of_float16_rows_and_others_by_rounding(monkeypatch, second, dtype):
    import torch

    X, y = rows()
    X = X.astype(dtype)
    alone, n_threads = collect(X, y, second), torch.get_num_threads()
    monkeypatch.setattr("probe.heads.shared.one_pass.THREAD_ENTRIES", 100)
    torch.set_num_threads(3)
    try:
        shared = collect(X, y, second)
        bits = collect(X, y, second)
    finally:
        torch.set_num_threads(n_threads)
    assert_same(alone, shared)
    np.testing.assert_array_equal(shared.squares, bits.squares)
    if dtype == np.float16:
        np.testing.assert_array_equal(alone.sums, shared.sums)


@pytest.mark.parametrize("second", ["diagonal", "class_diagonal"])
def test_float16_rows_far_from_zero_keep_their_spread_and_constants_have_none(second):
    rng = np.random.default_rng(0)
    X = np.column_stack([1000 + rng.integers(0, 3, 400) / 2, np.full(400, 0.1), np.full(400, -60000.0)])
    y = rng.integers(0, 4, 400)
    moments = collect(X.astype(np.float16), y, second)
    exact = X.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(moments.total()[0], ((exact[:, 0] - exact[:, 0].mean()) ** 2).sum(), rtol=1e-9)
    assert not moments.total()[1:].any()
    assert not moments.within()[..., 1:].any()


def test_rows_that_may_be_written_are_not():
    X, y = rows()
    before = X.copy()
    for second in SECONDS:
        for unit_rows in (False, True):
            collect(X, y, second, unit_rows=unit_rows)
    np.testing.assert_array_equal(X, before)


def test_threads_are_left_as_they_were():
    import torch

    before = torch.get_num_threads()
    collect(*rows())
    assert torch.get_num_threads() == before


def test_unit_rows_average_directions():
    X, y = rows()
    X[0] = 0
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(collect(X, y, "none", unit_rows=True).sums, collect(unit, y, "none").sums, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("second", SECONDS)
def test_a_bad_value_is_refused_with_its_row_and_changes_nothing(bad, second):
    X, y = rows()
    moments = collect(X, y, second)
    before = moments.sums.copy()
    X[211, 4] = bad
    with pytest.raises(InputError, match="row 211 of X holds NaN or inf, expected finite features: leave that row out"):
        moments.update(X, y)
    np.testing.assert_array_equal(moments.sums, before)
    assert moments.n_rows == 300


def test_overflow_is_refused():
    X, y = rows()
    with pytest.raises(InputError, match="features are too large, their squares overflow"):
        collect(X * 1e200, y)
