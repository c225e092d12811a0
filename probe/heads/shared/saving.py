"""Fitted heads as files of safetensors, in which nothing is pickled."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from probe.core import tensors
from probe.core.arrays import RowStack
from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.hashing import hash_arrays
from probe.core.lazy import Entries, Mixed, RowSubset, Scaled
from probe.core.writing import write_file
from probe.features.reference import reference_to, rows_behind
from probe.results.schema import RESULT

ROOM = "probe.heads."
MOVED = {"one_vs_rest": "shared.one_vs_rest", "linear_shared": "shared.linear_ranks"}
"""Modules of saved heads, below their room, that stand elsewhere now."""
LAZY = (np.memmap, RowStack, RowSubset, Entries, Scaled, Mixed)
SavedHead = TypeVar("SavedHead", bound=BaseEstimator)


def save(head: Any, path: str | Path) -> None:
    """Writes the fitted head as safetensors: arrays as tensors, everything else as JSON in the header.

    Rows of the feature store are not copied: the header says which they are.
    """
    check_is_fitted(head)
    fitted = {name: value for name, value in vars(head).items() if name.endswith("_") and not name.startswith("_")}
    lazy = {k: v for k, v in fitted.items() if isinstance(v, LAZY)}
    references = {k: found for k, v in lazy.items() if (found := reference_to(v)) is not None}
    fitted |= {k: np.asarray(v[:]) for k, v in lazy.items() if k not in references}
    fitted = {k: v for k, v in fitted.items() if k not in references}
    arrays = {k: np.ascontiguousarray(v) for k, v in fitted.items() if isinstance(v, np.ndarray)}
    strings = {k: v.tolist() for k, v in arrays.items() if v.dtype.kind not in "fiub"}
    others = {k: v for k, v in fitted.items() if k not in arrays} | strings
    # What a run filled in as an array is among the fitted attributes already.
    given = {k: None if isinstance(v, np.ndarray) else v for k, v in head.get_params(deep=False).items()}
    header = {
        "class": f"{type(head).__module__}:{type(head).__qualname__}",
        "parameters": json.dumps(given, default=_plain),
        "attributes": json.dumps(others, default=_plain),
        "strings": json.dumps(sorted(strings)),
    } | ({"references": json.dumps(references)} if references else {})
    numbers = {k: v for k, v in arrays.items() if k not in strings}
    write_file(path, tensors.to_bytes(numbers, header | {"digest": _digest(numbers, header)}))


def _digest(arrays: Mapping[str, Any], header: Mapping[str, str]) -> str:
    """Of all that the file says, so that a damaged one is no other head."""
    return digest([hash_arrays(arrays), dict(header)])


def load(cls: type[SavedHead], path: str | Path) -> SavedHead:
    """Reads a head that `save` wrote; refuses files of another class."""
    arrays, header = tensors.read(path)
    stated = header.pop("digest", None)  # files of older versions have none
    if stated not in (None, _digest(arrays, header)):
        raise InputError(f"{path} is not as it was saved: damaged; bring back a copy of it, or fit the head again")
    module, _, name = header.get("class", ":").partition(":")
    # A file never decides which foreign code is imported: its own class has to be there already.
    own = header.get("class") == f"{cls.__module__}:{cls.__qualname__}"
    if not own and not module.startswith(ROOM):
        raise InputError(
            f"{path} holds a {name or 'file'} from {module or 'elsewhere'}, which is no head of this package: "
            "give a head.safetensors that a run wrote, and load a head of your own with its class"
        )
    below = module.removeprefix(ROOM)
    kind: Any = cls if own else getattr(importlib.import_module(ROOM + MOVED.get(below, below)), name, None)
    if not isinstance(kind, type) or not issubclass(kind, cls):
        raise InputError(f"{path} holds a {name}, expected a {cls.__name__}: load it with {name}.load")
    head: SavedHead = kind(**json.loads(header["parameters"]))
    # JSON knows lists alone.
    defaults = kind().get_params(deep=False)
    tuples = {k: tuple(v) for k, v in head.get_params(deep=False).items() if isinstance(defaults[k], tuple)}
    head.set_params(**tuples)
    attributes: Mapping[str, Any] = json.loads(header["attributes"])
    for key in json.loads(header["strings"]):
        attributes = {**attributes, key: np.asarray(attributes[key])}
    references = json.loads(header.get("references", "{}"))
    rows = {key: rows_behind(reference, _remedy(Path(path))) for key, reference in references.items()}
    fitted = {**attributes, **arrays, **rows}
    if odd := [key for key in fitted if not key.endswith("_") or key.startswith("_")]:
        raise InputError(f"{path} sets {', '.join(odd)}, which no fitted head has: give a file that a run wrote")
    head.__dict__.update(fitted)
    return head


def _remedy(path: Path) -> str:
    """What brings back features that a head refers to."""
    if (path.parent / RESULT).exists():
        return f"`probe reproduce {path.parent}` extracts them again"
    return "extract them again, or fit the head again"


def _plain(value: Any) -> Any:
    """JSON for numpy scalars and arrays inside parameters and attributes."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be saved with a head")
