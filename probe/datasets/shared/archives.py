"""Arrays of an .npz file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.files import open_regular


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name, read into memory; nothing is unpickled, and two of one name are refused."""
    with open_regular(file) as opened, np.load(opened, allow_pickle=False) as archive:
        twice = [key for key, n in Counter(archive.files).items() if n > 1]
        if twice:
            raise InputError(f"{file} has several arrays named {twice[0]!r}, expected one: write it again")
        return {key: archive[key] for key in archive.files}
