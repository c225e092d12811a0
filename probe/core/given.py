"""What users give as arrays: brought to what numpy and torch both read, or refused in one sentence."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.kinds import stored_as_floats
from probe.core.lazy import RowSubset


def plain(given: Any, what: str, *, lazy: bool = False) -> Any:
    """The same without what would be misread, or end in an error of torch's; what is no such array comes back as it is.

    Bytes in the other order are turned around, and torch's bfloat16 becomes float32.

    Args:
        given: An array, some rows of one, or anything that numpy makes one of.
        what: Its name, for people.
        lazy: Whether floats in a file stay there, to be read in chunks.

    Raises:
        InputError: A mask hides entries, which nothing here reads; it is sparse, a single value, or floats in the other
            byte order that are to stay in their file.
    """
    if isinstance(given, RowSubset):
        array = plain(given.array, what, lazy=lazy)
        return given if array is given.array else RowSubset(array, given.indices)
    if isinstance(given, np.ma.MaskedArray):
        if hidden := int(np.ma.count_masked(given)):
            raise InputError(
                f"{what} hides {hidden} entries behind a mask, which nothing here reads: leave those rows out, or fill "
                "them in"
            )
        given = given.data
    if _is_sparse(given):
        raise InputError(f"{what} is sparse, expected a dense array: make it one by toarray()")
    if isinstance(given, str | bytes | numbers.Number) or getattr(given, "ndim", None) == 0:
        raise InputError(f"{what} is a single value, expected one for each row: give an array")
    if str(getattr(given, "dtype", "")) == "torch.bfloat16":
        return given.float()
    if isinstance(given, np.ndarray) and not given.dtype.isnative:
        if lazy and isinstance(given, np.memmap) and given.dtype.kind == "f":
            raise InputError(
                f"{what} lies in a file of {given.dtype.str} numbers, bytes in the order of other machines: write it "
                f"as {given.dtype.newbyteorder('=').name}"
            )
        return np.asarray(given).astype(given.dtype.newbyteorder("="))
    return given


def plain_array(given: Any, what: str, dtype: Any = None) -> NDArray[Any]:
    """What `plain` leaves of it, as an array in memory.

    Raises:
        InputError: As `plain` does.
    """
    return np.asarray(plain(given, what), dtype=dtype)


def plain_features(X: Any) -> Any:
    """What `plain` leaves of features, or of each kind of a mapping of them; floats in files stay there.

    Raises:
        InputError: As `plain` does.
    """
    if is_of_kinds(X):
        return {kind: plain(array, kind, lazy=True) for kind, array in X.items()}
    return plain(X, "X", lazy=True)


def is_of_kinds(X: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether features are a mapping from kinds to arrays; scipy's dictionary of sparse entries is a mapping too."""
    return isinstance(X, Mapping) and not _is_sparse(X)


def _is_sparse(given: Any) -> bool:
    if not hasattr(given, "toarray"):  # scipy is not imported for nothing
        return False
    from scipy.sparse import issparse

    return bool(issparse(given))


def as_numbers(given: Any, kind: str) -> NDArray[Any]:
    """Features of a kind as torch takes them; whole numbers become floats, but for those of tokens.

    Raises:
        InputError: They are no numbers, or longer ones than torch has.
    """
    array = np.asarray(given)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise InputError(f"{kind} is {array.dtype}, expected numbers of at most 8 bytes: give float32")
    return array.astype(np.float32) if array.dtype.kind != "f" and stored_as_floats(kind) else array
