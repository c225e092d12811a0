import numpy as np
import pytest
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from probe.heads.linalg import banded
from probe.heads.linalg.banded import BANDWIDTH, ROWS, solve_shifted

SIZES = (1, 2, BANDWIDTH, BANDWIDTH + 1, BANDWIDTH + 2, 2 * BANDWIDTH + 1, ROWS + BANDWIDTH + 17, 3 * ROWS)


def system(width, n_rows=None, seed=0, K=3):
    """A in Fortran order with nonsense in its upper half, and R."""
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(n_rows or 2 * width, width)) * np.logspace(0, 2, width)
    A = H.T @ H
    return np.asfortranarray(np.tril(A) + np.triu(np.full_like(A, 1e300), 1)), A, rng.normal(size=(width, K))


@pytest.mark.parametrize("width", SIZES)
def test_every_shift_is_solved_as_by_a_factorisation_of_its_own(width):
    lower, A, R = system(width)
    shifts = [1e-3, 1.0, 1e3, 1e6]
    for shift, found in zip(shifts, solve_shifted(lower, R, shifts), strict=True):
        expected = cho_solve(cho_factor(A + shift * np.eye(width)), R)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_the_matrix_is_left_as_it_was():
    lower, _, R = system(ROWS + 5)
    before, right = lower.copy(), R.copy()
    solve_shifted(lower, R, [1.0])
    np.testing.assert_array_equal(lower, before)
    np.testing.assert_array_equal(R, right)


def test_residuals_are_those_of_a_factorisation_in_a_matrix_of_low_rank():
    lower, A, R = system(2 * ROWS, n_rows=50)
    for shift, found in zip((1e-2, 1e2), solve_shifted(lower, A @ R, (1e-2, 1e2)), strict=True):
        off = (A + shift * np.eye(len(A))) @ found - A @ R
        assert np.abs(off).max() <= 1e-12 * np.abs(A).max() * np.abs(found).max() * len(A)


def test_what_is_not_positive_definite_has_no_solution():
    A = np.asfortranarray(np.diag(np.arange(-2.0, BANDWIDTH + 8)))
    found = solve_shifted(A, np.ones((len(A), 1)), [1.0, 2.0, 3.0])
    assert [solution is None for solution in found] == [True, True, False]
    with pytest.raises(LinAlgError):
        cho_factor(A + np.eye(len(A)))
    np.testing.assert_allclose(found[2][:, 0], 1 / (np.arange(-2.0, BANDWIDTH + 8) + 3))


def test_the_band_has_the_eigenvalues_of_the_matrix():
    lower, A, _ = system(2 * BANDWIDTH + 40)
    band, _ = banded._reduced(np.array(lower.T, order="C"))
    whole = sum(np.diag(band[off, : len(A) - off], -off) for off in range(len(band)))
    found = np.linalg.eigvalsh(whole)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(A), rtol=0, atol=1e-12 * found[-1])
