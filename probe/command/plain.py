"""Parameters from Python as a configuration holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.core.errors import InputError


def plain(value: Any, what: str) -> Any:
    """A parameter as a configuration holds it: numbers, texts, lists and mappings.

    Raises:
        InputError: It is an object that no text says.
    """
    from probe.results.result import Result

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path | Result):
        return str(value.folder if isinstance(value, Result) else value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner, f"{what}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(inner, what) for inner in value]
    if hasattr(value, "tolist"):  # of NumPy or torch
        return plain(value.tolist(), what)
    raise InputError(
        f"{what} is a {type(value).__name__}, which no record could say: give numbers, texts, lists or mappings"
    )
