"""What tables call the parts of a run: the name, then the parameters that differ from the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import yaml

from probe.core.files import CONF


def label(name: str, parameters: Mapping[str, Any], *bases: tuple[str, Mapping[str, Any]]) -> str:
    """A display name that tells variants apart: the name, then the parameters that differ from the defaults.

    Args:
        name: What is called so where no base is given.
        parameters: All parameters that tell it apart.
        bases: Names with the parameters that each stands for; the one that leaves least to say is taken, the first
            where several do.
    """
    # Configurations know lists where Python's defaults are tuples.
    given = {key: _listed(value) for key, value in sorted(parameters.items())}
    candidates = [
        (base, {key: value for key, value in given.items() if value != _listed(known.get(key))})
        for base, known in bases or ((name, {}),)
    ]
    chosen, changed = min(candidates, key=lambda candidate: len(candidate[1]))
    told = ",".join(f"{key}={_short(value)}" for key, value in changed.items())
    return f"{chosen}({told})" if told else chosen


def bases_of(name: str, kind: type, read: Callable[[Any], Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The defaults of a head or protocol under its name, then its presets, for `label`.

    Args:
        name: Of the class's own file.
        kind: The class; one that cannot be made without arguments has no bases but its name.
        read: Gives the parameters of an instance, in one spelling.
    """
    try:
        return [(name, read(kind())), *((preset, read(kind(**told))) for preset, told in presets(name).items())]
    except TypeError:
        return [(name, {})]


@cache
def presets(name: str) -> dict[str, dict[str, Any]]:
    """The package's yamls that inherit a head's own and list what differs, by their names."""
    found = {}
    for path in sorted((CONF / "head").glob("*.yaml")):
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        if name in (told.pop("defaults", None) or ()):
            found[path.stem] = told
    return found


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    """A parameter's value as a label shows it: the name of a thing that has one, else the value without spaces."""
    return str(value["name"]) if isinstance(value, Mapping) and "name" in value else str(value).replace(" ", "")
