"""Features that are not finite are refused by the number of their row, however many threads look for it."""

import numpy as np
import pytest

from probe.core import finite
from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.core.finite import check_finite


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("shape", [(60, 4), (60, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_row_is_named(n_threads, shape, dtype, bad, monkeypatch):
    monkeypatch.setattr(finite, "cpu_count", lambda: n_threads)
    monkeypatch.setattr(finite, "THREAD_ENTRIES", 40)
    X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    check_finite(X)
    for row in (55, 20, 0):
        X[row, ..., 1] = bad
        with pytest.raises(InputError, match=f"row {row} of X holds NaN or inf"):
            check_finite(X)


def test_rows_whose_sum_overflows_are_finite():
    check_finite(np.full((4, 4), np.finfo(np.float64).max))


def test_rows_on_disk_are_looked_through_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("probe.core.arrays.CHUNK_BYTES", 64)
    X = np.ones((50, 4), dtype=np.float32)
    X[17] = np.nan
    np.save(tmp_path / "x.npy", X)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(InputError, match="row 17 of the validation rows"):
        check_finite(stored, "the validation rows")
    check_finite(RowSubset(stored, np.delete(np.arange(50), 17)))
