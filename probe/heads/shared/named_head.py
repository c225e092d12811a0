"""Heads that another head names, as `head=` does: by their yaml."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.files import CONF
from probe.heads.shared.base import AnyHead


@cache
def _told(name: str) -> dict[str, Any]:
    """What the yaml of a head of this package says."""
    path = CONF / "head" / f"{name}.yaml"
    if not name.isidentifier() or not path.is_file():
        known = ", ".join(sorted(p.stem for p in (CONF / "head").glob("*.yaml")))
        raise InputError(f"head {name!r} is unknown, expected one of {known}: use one of them")
    found = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    for base in found.pop("defaults", ()):
        found = (_told(base) | found) if base != "_self_" else found
    return found


def as_bytes(head: AnyHead) -> NDArray[np.uint8]:
    """The file of a fitted head, as an array that another head keeps."""
    with tempfile.TemporaryDirectory() as folder:
        head.save(Path(folder) / "head.safetensors")
        return np.frombuffer((Path(folder) / "head.safetensors").read_bytes(), dtype=np.uint8)


def from_bytes(content: NDArray[np.uint8]) -> Any:
    """The head again."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "head.safetensors").write_bytes(content.tobytes())
        return AnyHead.load(Path(folder) / "head.safetensors")


def class_named(name: str) -> type:
    """The class of a head of this package.

    Raises:
        InputError: There is none of this name.
    """
    module, _, kind = str(_told(name)["_target_"]).rpartition(".")
    found: type = getattr(importlib.import_module(module), kind)
    return found


def head_named(name: str, params: Mapping[str, Any] | None = None) -> Any:
    """A fresh head of classes with the parameters of its yaml and those given.

    Raises:
        InputError: There is none, it fits no classes by rows and labels alone, or has no such parameter.
    """
    kind: Any = class_named(name)
    given = {key: value for key, value in _told(name).items() if key != "_target_"} | dict(params or {})
    made = kind(**{key: value for key, value in given.items() if key in _told(name)})
    if unknown := sorted(set(given) - set(_told(name))):
        raise InputError(f"head {name} has no parameter {', '.join(unknown)}: leave it out")
    alone = "one_class" in kind.fits and kind.consumes == ("pooled",) and not hasattr(kind, "measure")
    if not alone or made.reads_texts or made.needs_teacher or made.balances_groups:
        raise InputError(f"head {name} does not fit classes on pooled features alone: choose another, such as linear")
    return made
