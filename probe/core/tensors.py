"""Files of safetensors: the same content in the same bytes, and one sentence for whatever is no such file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError

Arrays = dict[str, NDArray[Any]]


def to_bytes(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file; its header names metadata and arrays in a fixed order, which safetensors itself does not."""
    from safetensors.numpy import save

    written = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=dict(metadata or {}))
    size = int.from_bytes(written[:8], "little")
    header = json.dumps(json.loads(written[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + written[8 + size :]


def from_bytes(content: bytes, name: str) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a file's content.

    Raises:
        InputError: It is none; the sentence begins with `name`.
    """
    arrays = arrays_from_bytes(content, name)  # has checked the header, too
    size = int.from_bytes(content[:8], "little")
    return arrays, json.loads(content[8 : 8 + size]).get("__metadata__") or {}


def arrays_from_bytes(content: bytes, name: str) -> Arrays:
    """The arrays alone, which takes a third less where they are small.

    Raises:
        InputError: It is no such file; the sentence begins with `name`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name} is half-written or damaged: bring back a copy of it, or make it again") from error


def read(path: str | Path) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a file.

    Raises:
        InputError: It cannot be read, or is none.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a file of safetensors") from error
    return from_bytes(content, str(path))
